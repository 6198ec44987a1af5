"""The summary of a run, from what Kubeflow tells its exit handler."""

import datetime
import json
from typing import Any

_UNNAMED_JOB = "unnamed"


def run_summary(final_status: str, *, configuration: str, now: datetime.datetime) -> dict[str, Any]:
    """Puts the final status of a run beside its configuration.

    Args:
        final_status: JSON of a PipelineTaskFinalStatus: `state`, `pipelineJobResourceName`, and of a failure `error`
            with `code` and `message`.
        configuration: of the run, YAML.
        now: when the run ended.

    Returns:
        `job`, `state`, `succeeded`, `error` (None or code and message), `ended`, `configuration`.

    Raises:
        ValueError: the status is no JSON object, or has no `state`.
    """
    try:
        status = json.loads(final_status)
    except json.JSONDecodeError as error:
        raise ValueError(f"the final status must be a JSON object; received {final_status!r}") from error
    if not isinstance(status, dict) or "state" not in status:
        raise ValueError(f"the final status must be a JSON object with a state; received {final_status!r}")
    return {
        "job": status.get("pipelineJobResourceName", ""),
        "state": status["state"],
        "succeeded": status["state"] == "SUCCEEDED",
        "error": status.get("error") or None,
        "ended": now.isoformat(timespec="seconds"),
        "configuration": configuration,
    }


def file_name(summary: dict[str, Any]) -> str:
    """The name of a run's summary: its job's, so that a repeated attempt writes the same file again."""
    return f"{summary['job'].rsplit('/', 1)[-1] or _UNNAMED_JOB}.json"
