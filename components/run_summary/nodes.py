"""How the nodes of a run went, by whoever runs it: Vertex AI, or a runner that leaves what it knows in a file."""

import datetime
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tfx.dsl.io import fileio

from components.google_calls import CALL, explained
from components.run_summary.settings import JOB_FILE

_JOB = re.compile(r"projects/(?P<project>[^/]+)/locations/(?P<region>[^/]+)/pipelineJobs/(?P<run>[^/]+)")


@dataclass(frozen=True)
class Node:
    """How a node went.

    Attributes:
        name: of the node.
        state: in Vertex AI's words: SUCCEEDED, SKIPPED (answered from the cache), FAILED, NOT_TRIGGERED and the like.
        seconds: that it took; None if it never began.
        error: what is told of a failure.
        outputs: URIs of its artifacts, by their keys.
    """

    name: str
    state: str
    seconds: float | None = None
    error: str = ""
    outputs: Mapping[str, str] = field(default_factory=dict)


def read_job(name: str, *, region: str, runs: str) -> dict[str, Any] | None:
    """The job of a run, as Vertex AI's REST interface writes a PipelineJob.

    Args:
        name: of the job, as the runner tells it to the exit handler.
        region: of Vertex AI; it is asked only about a job that says it is there.
        runs: folder in which another runner has one of the run's name, with what it knows of it.

    Returns:
        The job; None where the runner leaves nothing.

    Raises:
        ServiceError: Vertex AI refuses, or does not answer.
        ValueError: what the runner has left is no JSON.
    """
    found = _JOB.fullmatch(name)
    if found and found["region"] == region:
        return _ask(name, found["project"], region)
    path = f"{runs}/{name.rsplit('/', 1)[-1]}/{JOB_FILE}"
    if not fileio.exists(path):
        return None
    with fileio.open(path, "r") as file:
        return json.load(file)


def nodes_of(job: Mapping[str, Any], *, without: tuple[str, ...]) -> list[Node]:
    """The nodes of a job, in the order in which they began.

    Args:
        job: see `read_job`.
        without: names of tasks that are no nodes, or have not ended.
    """
    details = job.get("jobDetail", {}).get("taskDetails", [])
    details = sorted(details, key=lambda detail: (detail.get("startTime", "9"), detail["taskName"]))
    return [_node(detail) for detail in details if detail["taskName"] not in without]


def began(job: Mapping[str, Any]) -> datetime.datetime | None:
    """When a run began; None: it is not told."""
    told = job.get("startTime") or job.get("createTime")
    return _time(told) if told else None


def console_link(name: str) -> str | None:
    """The page of a run in the console; None: its name is none of Vertex AI's."""
    found = _JOB.fullmatch(name)
    if found is None:
        return None
    page = f"https://console.cloud.google.com/vertex-ai/locations/{found['region']}/pipelines/runs/{found['run']}"
    return f"{page}?project={found['project']}"


def _ask(name: str, project: str, region: str) -> dict[str, Any]:
    # The clients of Vertex AI take seconds to import.
    from google.api_core.client_options import ClientOptions
    from google.cloud import aiplatform_v1
    from google.protobuf import json_format

    with explained("ask for the run's nodes", project=project, service_account=None):
        options = ClientOptions(api_endpoint=f"{region}-aiplatform.googleapis.com")
        job = aiplatform_v1.PipelineServiceClient(client_options=options).get_pipeline_job(name=name, **CALL)
    return json_format.MessageToDict(aiplatform_v1.PipelineJob.pb(job))


def _node(detail: Mapping[str, Any]) -> Node:
    start, end = detail.get("startTime"), detail.get("endTime")
    return Node(
        name=detail["taskName"],
        state=detail.get("state", "STATE_UNSPECIFIED"),
        seconds=round((_time(end) - _time(start)).total_seconds(), 1) if start and end else None,
        error=detail.get("error", {}).get("message", ""),
        outputs={
            key: listed["artifacts"][0]["uri"]
            for key, listed in detail.get("outputs", {}).items()
            if listed.get("artifacts") and "uri" in listed["artifacts"][0]
        },
    )


def _time(text: str) -> datetime.datetime:
    """RFC 3339, whose Z and whose nanoseconds Python 3.10 does not read."""
    whole, fraction = re.fullmatch(r"([^.Z+]+)(\.\d+)?(?:Z|\+00:00)", text).groups()
    at = datetime.datetime.fromisoformat(whole).replace(tzinfo=datetime.timezone.utc)
    return at + datetime.timedelta(seconds=float(fraction or 0))
