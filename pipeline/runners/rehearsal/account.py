"""What Vertex AI would tell of a run: to its exit handler how it went, to whoever asks how each of its tasks did."""

import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.run_summary.settings import JOB_FILE
from pipeline.runners.rehearsal.result import Result, State

# Its region is none of Vertex AI's, so nobody asks Google about a rehearsal.
RESOURCE_NAME = "projects/0/locations/rehearsal/pipelineJobs/{}"
_FAILED_PRECONDITION = 9


def final_status(pipeline: str, job: str, dag: str, results: Mapping[str, Result]) -> dict[str, Any]:
    """A PipelineTaskFinalStatus in JSON values.

    Args:
        pipeline: its name.
        job: resource name of the run.
        dag: under which its tasks are put together.
        results: of these, by name.
    """
    failed = [name for name, result in results.items() if result.state is State.FAILED]
    status: dict[str, Any] = {
        "state": "FAILED" if failed else "SUCCEEDED",
        "pipelineJobName": pipeline,
        "pipelineJobResourceName": job,
        "pipelineTaskName": dag,
    }
    if failed:
        message = f"The DAG failed because some tasks failed. The failed tasks are: [{', '.join(failed)}]."
        status["error"] = {"code": _FAILED_PRECONDITION, "message": message}
    return status


def write_job(folder: Path, job: str, results: Mapping[str, Result]) -> None:
    """Leaves a run's tasks where RunSummary looks, in the form of Vertex AI's PipelineJob.

    Args:
        folder: of the run.
        job: resource name of the run.
        results: of its tasks, by name.
    """
    details = [_detail(name, result) for name, result in results.items()]
    began = min((one["startTime"] for one in details if "startTime" in one), default=None)
    value = {"name": job, "jobDetail": {"taskDetails": details}} | ({"startTime": began} if began else {})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / JOB_FILE).write_text(json.dumps(value, indent=1), encoding="utf-8")


def _detail(name: str, result: Result) -> dict[str, Any]:
    detail: dict[str, Any] = {"taskName": name, "state": result.state.value}
    if result.began:
        ended = result.began + datetime.timedelta(seconds=result.seconds)
        detail |= {"startTime": result.began.isoformat(), "endTime": ended.isoformat()}
    if result.state is State.FAILED:
        detail["error"] = {"code": _FAILED_PRECONDITION, "message": result.message}
    if result.made.artifacts:
        made = {key: {"artifacts": [artifact]} for key, artifact in result.made.artifacts.items()}
        detail["outputs"] = made
    return detail
