"""Follows a run on Vertex AI: a table of its nodes that lives until the run ends."""

import datetime
import time
from collections.abc import Callable, Iterator

from google.cloud.aiplatform_v1 import PipelineJob, PipelineServiceClient, PipelineState, PipelineTaskDetail
from google.protobuf import json_format
from rich.console import Console
from rich.live import Live
from rich.table import Table

from pipeline.cloud import VertexConfig
from pipeline.runners import kubeflow
from pipeline.runners.vertex import state_name
from pipeline.runners.vertex_calls import CALL, ServiceError, explained

_POLL_S = 15
_WORDS = {
    "PENDING": "waiting",
    "RUNNING": "running",
    "SUCCEEDED": "done",
    "SKIPPED": "cached",
    "FAILED": "failed",
    "CANCEL_PENDING": "stopping",
    "CANCELLING": "stopping",
    "CANCELLED": "cancelled",
    "NOT_TRIGGERED": "not run",
}
_ENDS = (
    PipelineState.PIPELINE_STATE_SUCCEEDED,
    PipelineState.PIPELINE_STATE_FAILED,
    PipelineState.PIPELINE_STATE_CANCELLED,
)


def follow(
    client: PipelineServiceClient,
    name: str,
    vertex: VertexConfig,
    *,
    console: Console,
    wait: Callable[[float], None] = time.sleep,
) -> None:
    """Shows the nodes of a run, each with its state and seconds, until the run has ended well.

    Args:
        client: of the pipeline service, see `vertex.pipeline_client`.
        name: projects/P/locations/L/pipelineJobs/ID.
        vertex: of the run.
        console: on a terminal the table is drawn anew; elsewhere each change of a state is a line.
        wait: takes the seconds between two looks.

    Raises:
        ServiceError: a node failed (with its name and message), the run was cancelled, or Vertex AI does not answer.
    """
    seen: dict[str, str] = {}
    with Live(console=console, auto_refresh=False) as live:
        while True:
            with explained(vertex, "follow"):
                job = client.get_pipeline_job(name=name, **CALL)
            rows = list(_rows(job, datetime.datetime.now(datetime.timezone.utc)))
            if not console.is_terminal:
                for node, state, _ in rows:
                    if seen.get(node, "waiting") != state:
                        console.print(f"{node} {state}", markup=False, highlight=False)
            seen = {node: state for node, state, _ in rows}
            live.update(_table(rows), refresh=True)
            if job.state in _ENDS:
                break
            wait(_POLL_S)
    if job.state != PipelineState.PIPELINE_STATE_SUCCEEDED:
        raise ServiceError(_reason(job))


def _rows(job: PipelineJob, now: datetime.datetime) -> Iterator[tuple[str, str, str]]:
    """Name, state and seconds of each node: those that began, in that order, then those that wait."""
    details = _details(job)
    for detail in sorted(details.values(), key=lambda detail: (detail.start_time or now, detail.task_name)):
        name = PipelineTaskDetail.State(detail.state).name
        end = detail.end_time or now
        seconds = max((end - detail.start_time).total_seconds(), 0) if detail.start_time else None
        yield detail.task_name, _WORDS.get(name, name.lower()), "" if seconds is None else f"{seconds:.0f}"
    for node in sorted(_nodes(job) - set(details)):
        yield node, "waiting", ""


def _details(job: PipelineJob) -> dict[str, PipelineTaskDetail]:
    """By node. Vertex AI also lists the graphs that hold the nodes."""
    nodes = _nodes(job)
    return {detail.task_name: detail for detail in job.job_detail.task_details if detail.task_name in nodes}


def _nodes(job: PipelineJob) -> set[str]:
    spec = json_format.MessageToDict(PipelineJob.pb(job).pipeline_spec)
    return {name for name, _ in kubeflow.tasks(spec)}


def _table(rows: list[tuple[str, str, str]]) -> Table:
    table = Table()
    table.add_column("node")
    table.add_column("state")
    table.add_column("seconds", justify="right")
    for row in rows:
        table.add_row(*row)
    return table


def _reason(job: PipelineJob) -> str:
    failed = [
        f"{detail.task_name} failed: {detail.error.message or 'without a message; its log is in the console'}"
        for detail in _details(job).values()
        if detail.state == PipelineTaskDetail.State.FAILED
    ]
    return "\n".join(failed) or f"the run ended {state_name(job.state)}: {job.error.message or 'without a message'}"
