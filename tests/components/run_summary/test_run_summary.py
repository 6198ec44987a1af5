"""What the exit handler writes of a run that succeeded, failed, or of which too little is known."""

import datetime
import json

import pytest

from components.run_summary import component
from components.run_summary.summary import file_name, run_summary

JOB = "projects/123/locations/us-central1/pipelineJobs/simclr-20260102"
FAILED = {
    "state": "FAILED",
    "pipelineJobResourceName": JOB,
    "pipelineTaskName": "tfx-dag",
    "error": {"code": 9, "message": "AnomalyGate-labeled failed"},
}
NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)


def summary_of(status: dict) -> dict:
    return run_summary(json.dumps(status), configuration="seed: 1\n", now=NOW)


def test_failed_run_has_its_error_and_is_not_called_a_success():
    summary = summary_of(FAILED)
    assert (summary["state"], summary["succeeded"]) == ("FAILED", False)
    assert summary["error"] == {"code": 9, "message": "AnomalyGate-labeled failed"}
    assert (summary["ended"], summary["configuration"]) == ("2026-01-02T03:04:05+00:00", "seed: 1\n")


def test_succeeded_run_has_no_error():
    summary = summary_of({"state": "SUCCEEDED", "pipelineJobResourceName": JOB, "error": {}})
    assert (summary["succeeded"], summary["error"]) == (True, None)


def test_file_is_named_after_the_job_and_a_nameless_one_still_has_a_file():
    assert file_name(summary_of(FAILED)) == "simclr-20260102.json"
    assert file_name(summary_of({"state": "FAILED"})) == "unnamed.json"


@pytest.mark.parametrize("status", ["", "FAILED", "[]", "{}"])
def test_status_that_says_nothing_is_refused_with_what_came(status):
    with pytest.raises(ValueError, match="final status must be a JSON object") as error:
        run_summary(status, configuration="", now=NOW)
    assert repr(status) in str(error.value)


def test_component_writes_the_file_into_a_folder_that_was_not_there(tmp_path):
    executor = component.RunSummary_Executor()
    destination = tmp_path / "runs" / "summaries"
    executor.Do({}, {}, {"final_status": json.dumps(FAILED), "destination": str(destination), "configuration": ""})
    assert json.loads((destination / "simclr-20260102.json").read_text())["state"] == "FAILED"
