"""The summary of a run, from what its exit handler is told and can find out."""

import dataclasses
import datetime
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from components.google_calls import ServiceError
from components.run_summary.nodes import Node, began, console_link, nodes_of, read_job
from components.run_summary.results import Results, read_results

_UNNAMED_JOB = "unnamed"
_OWN_NAME = "RunSummary"
# In the words of Vertex AI's error of a run.
_FAILED_TASKS = re.compile(r"failed tasks are: \[([^]]*)\]")


def read_status(text: str) -> dict[str, Any]:
    """Reads what Kubeflow tells an exit handler.

    Args:
        text: JSON of a PipelineTaskFinalStatus: `state`, `pipelineJobResourceName`, and of a failure `error` with
            `code` and `message`.

    Raises:
        ValueError: it is no JSON object, or has no `state`.
    """
    try:
        status = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"the final status must be a JSON object; received {text!r}") from error
    if not isinstance(status, dict) or "state" not in status:
        raise ValueError(f"the final status must be a JSON object with a state; received {text!r}")
    return status


def summarise(
    final_status: str, *, runs: str, region: str, configuration: str, now: datetime.datetime
) -> dict[str, Any]:
    """Finds out how a run went; what cannot be found out is named in the summary, and does not keep it from being.

    Args:
        final_status: see `read_status`.
        runs: see `nodes.read_job`.
        region: see `nodes.read_job`.
        configuration: of the run, YAML.
        now: when the run ended.

    Returns:
        See `run_summary`.

    Raises:
        ValueError: the final status says nothing.
    """
    status, unread = read_status(final_status), []
    try:
        job = read_job(status.get("pipelineJobResourceName", ""), region=region, runs=runs)
    except (ServiceError, ValueError) as error:
        job, unread = None, [f"how the nodes went: {error}"]
    nodes = None if job is None else nodes_of(job, without=(_OWN_NAME, status.get("pipelineTaskName", "")))
    return run_summary(
        status,
        nodes=nodes,
        results=read_results(nodes or ()),
        started=job and began(job),
        configuration=configuration,
        now=now,
        unread=unread,
    )


def run_summary(
    status: dict[str, Any],
    *,
    nodes: Sequence[Node] | None,
    results: Results,
    started: datetime.datetime | None,
    configuration: str,
    now: datetime.datetime,
    unread: Iterable[str] = (),
) -> dict[str, Any]:
    """Puts together what became of a run.

    Args:
        status: see `read_status`.
        nodes: how each went; None: that is not known.
        results: what they have made.
        started: when the run began; None: that is not known.
        configuration: of the run, YAML.
        now: when the run ended.
        unread: what could not be asked, and why; what `results` could not read is added.

    Returns:
        `job`, `state`, `succeeded`, `error` (None or code and message), `failed` (name and error of each failed
        node), `started`, `ended`, `seconds`, `nodes`, `results`, `links`, `unread`, `configuration`.
    """
    job = status.get("pipelineJobResourceName", "")
    links = {"console": link} if (link := console_link(job)) else {}
    found = dataclasses.asdict(results)
    links |= found.pop("links")
    return {
        "job": job,
        "state": status["state"],
        "succeeded": status["state"] == "SUCCEEDED",
        "error": status.get("error") or None,
        "failed": _failed(status, nodes),
        "started": started.isoformat(timespec="seconds") if started else None,
        "ended": now.isoformat(timespec="seconds"),
        "seconds": round((now - started).total_seconds()) if started else None,
        "nodes": None if nodes is None else [dataclasses.asdict(node) for node in nodes],
        "unread": [*unread, *found.pop("unread")],
        "results": found,
        "links": links,
        "configuration": configuration,
    }


def in_words(summary: dict[str, Any]) -> str:
    """A few lines for the log: how the run ended, what failed and why, what came of it."""
    took = "" if summary["seconds"] is None else f" after {datetime.timedelta(seconds=summary['seconds'])}"
    lines = [f"{summary['job'] or 'the run'} ended {summary['state']}{took}"]
    lines += [
        f"{one['node']} failed: {one['error'] or 'without a message; see its log'}" for one in summary["failed"]
    ]
    if not summary["failed"] and summary["error"]:
        lines.append(summary["error"].get("message", ""))
    results = summary["results"]
    for row in results["accuracies"] or ():
        lines.append(
            f"{row['arm']} on {100 * row['label_fraction']:g}% of the labels: top-1 {100 * row['top1']:.1f}%"
        )
    lines += [told["reason"] for told in (results["decision"], results["registration"]) if told]
    lines += [f"{name}: {uri}" for name, uri in summary["links"].items()]
    return "\n".join([*lines, *(f"not read: {problem}" for problem in summary["unread"])])


def file_name(summary: dict[str, Any]) -> str:
    """The name of a run's summary: its job's, so that a repeated attempt writes the same file again."""
    return f"{summary['job'].rsplit('/', 1)[-1] or _UNNAMED_JOB}.json"


def _failed(status: dict[str, Any], nodes: Sequence[Node] | None) -> list[dict[str, str]]:
    """Nodes that failed; where nobody tells of the nodes, those that the error of the run names."""
    if nodes is not None:
        return [{"node": node.name, "error": node.error} for node in nodes if node.state == "FAILED"]
    named = _FAILED_TASKS.search((status.get("error") or {}).get("message", ""))
    return [{"node": name.strip(), "error": ""} for name in named[1].split(",")] if named else []
