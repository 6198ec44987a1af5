"""What the exit handler writes of a run that succeeded, failed, or of which too little is known."""

import datetime
import json
import logging

import pytest

from components.run_summary import component
from components.run_summary.nodes import Node, nodes_of
from components.run_summary.results import Results, read_results
from components.run_summary.summary import file_name, in_words, read_status, run_summary, summarise

JOB = "projects/123/locations/us-central1/pipelineJobs/simclr-20260102"
FAILED = {
    "state": "FAILED",
    "pipelineJobResourceName": JOB,
    "pipelineTaskName": "tfx-dag",
    "error": {"code": 9, "message": "The DAG failed because some tasks failed. The failed tasks are: [Push, Drift]."},
}
NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
METRICS = {
    "rows": [{"arm": "finetune", "label_fraction": 0.1, "top1": 0.391, "top5": 0.8, "n_test": 9, "seed": 1}],
    "ingest": {"unlabeled": {"read": 3, "kept": 2, "duplicate": 1, "rejected": 0}},
    "spans": {"decision": "enough", "window": [{"span": 4, "kept": 1}, {"span": 5, "kept": 1}]},
}
DECISION = {"blessed": True, "reason": "Better.", "pushed": "gs://b/pushed/3", "version": "3", "comparison": {}}


def summary_of(status: dict, **given) -> dict:
    known = {"nodes": None, "results": Results(), "started": None, **given}
    return run_summary(status, configuration="seed: 1\n", now=NOW, **known)


def test_failed_run_has_its_error_and_is_not_called_a_success():
    summary = summary_of(FAILED)
    assert (summary["state"], summary["succeeded"]) == ("FAILED", False)
    assert summary["error"] == FAILED["error"]
    assert (summary["ended"], summary["configuration"]) == ("2026-01-02T03:04:05+00:00", "seed: 1\n")


def test_succeeded_run_has_no_error():
    summary = summary_of({"state": "SUCCEEDED", "pipelineJobResourceName": JOB, "error": {}})
    assert (summary["succeeded"], summary["error"], summary["failed"]) == (True, None, [])


def test_failed_nodes_have_their_errors_and_where_nobody_tells_of_them_their_names():
    nodes = [Node("Transform", "SUCCEEDED"), Node("Pretrain", "FAILED", error="out of memory")]
    assert summary_of(FAILED, nodes=nodes)["failed"] == [{"node": "Pretrain", "error": "out of memory"}]
    assert [one["node"] for one in summary_of(FAILED)["failed"]] == ["Push", "Drift"]


def test_duration_is_from_the_beginning_of_the_run_and_the_link_leads_to_its_page():
    summary = summary_of(FAILED, started=NOW - datetime.timedelta(hours=2))
    assert (summary["started"], summary["seconds"]) == ("2026-01-02T01:04:05+00:00", 7200)
    page = "locations/us-central1/pipelines/runs/simclr-20260102?project=123"
    assert summary["links"] == {"console": f"https://console.cloud.google.com/vertex-ai/{page}"}
    nobodys = summary_of({"state": "FAILED", "pipelineJobResourceName": "run-7"})
    assert (nobodys["seconds"], nobodys["links"]) == (None, {})


def test_file_is_named_after_the_job_and_a_nameless_one_still_has_a_file():
    assert file_name(summary_of(FAILED)) == "simclr-20260102.json"
    assert file_name(summary_of({"state": "FAILED"})) == "unnamed.json"


@pytest.mark.parametrize("status", ["", "FAILED", "[]", "{}"])
def test_status_that_says_nothing_is_refused_with_what_came(status):
    with pytest.raises(ValueError, match="final status must be a JSON object") as error:
        read_status(status)
    assert repr(status) in str(error.value)


def test_nodes_are_in_the_order_in_which_they_began_without_the_graph_and_the_handler():
    details = [
        {"taskName": "RunSummary", "state": "RUNNING", "startTime": "2026-01-02T03:00:00Z"},
        {"taskName": "Report", "state": "NOT_TRIGGERED"},
        {"taskName": "Pretrain", "state": "FAILED", "startTime": "2026-01-02T02:00:00.250Z",
         "endTime": "2026-01-02T02:01:00.75Z", "error": {"code": 3, "message": "broke"}},
        {"taskName": "tfx-dag", "state": "FAILED", "startTime": "2026-01-02T01:00:00Z"},
        {"taskName": "Ingest", "state": "SKIPPED", "startTime": "2026-01-02T01:00:00.123456789Z",
         "outputs": {"examples": {"artifacts": [{"uri": "gs://b/e"}]}, "none": {}}},
    ]  # fmt: skip
    found = nodes_of({"jobDetail": {"taskDetails": details}}, without=("RunSummary", "tfx-dag"))
    assert found == [
        Node("Ingest", "SKIPPED", outputs={"examples": "gs://b/e"}),
        Node("Pretrain", "FAILED", seconds=60.5, error="broke"),
        Node("Report", "NOT_TRIGGERED"),
    ]


@pytest.fixture
def made(tmp_path):
    """Nodes that have made what a run makes."""
    registration = {"reason": "Registered as version 7 of simclr.", "version": "m@7", "is_new": True}
    nodes = []
    for name, key, file, value in (
        ("Report", "report", "metrics.json", METRICS),
        ("Push", "pushed_model", "decision.json", DECISION),
        ("VertexPusher", "registered_model", "registration.json", registration),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(json.dumps(value))
        nodes.append(Node(name, "SUCCEEDED", outputs={key: str(tmp_path / name)}))
    return nodes


def test_results_are_accuracies_images_spans_verdict_version_and_links(made, tmp_path):
    results = read_results(made)
    assert results.accuracies == [
        {"arm": "finetune", "label_fraction": 0.1, "n_labels": None, "top1": 0.391, "top5": 0.8, "n_test": 9}
    ]
    assert (results.images, results.spans) == (METRICS["ingest"], [4, 5])
    assert results.decision == {"blessed": True, "reason": "Better.", "pushed": "gs://b/pushed/3", "version": "3"}
    assert results.registration["version"] == "m@7"
    assert results.links == {
        "report": f"{tmp_path}/Report/report.html",
        "model_card": f"{tmp_path}/Report/model_card.html",
        "pushed": "gs://b/pushed/3",
    }
    assert results.unread == []


def test_results_that_are_missing_or_broken_are_named_and_hide_no_others(made, tmp_path):
    (tmp_path / "Report" / "metrics.json").write_text("{")
    (tmp_path / "VertexPusher" / "registration.json").unlink()
    results = read_results(made)
    assert (results.accuracies, results.registration) == (None, None)
    assert results.decision["reason"] == "Better."
    broken, missing = results.unread
    assert "metrics.json: Expecting" in broken
    assert "registration.json: it is not there" in missing
    words = in_words(summary_of(FAILED, results=results))
    assert f"not read: {broken}" in words and "Better." in words


def test_node_that_failed_has_no_results(made):
    failed = [Node("Push", "FAILED", outputs=made[1].outputs)]
    assert read_results(failed) == Results()


def test_words_tell_of_the_end_the_failure_and_what_came_of_the_run(made):
    nodes = [*made, Node("Drift", "FAILED", error="no champion")]
    given = {"nodes": nodes, "results": read_results(nodes), "started": NOW - datetime.timedelta(minutes=90)}
    words = in_words(summary_of(FAILED, **given)).splitlines()
    assert words[:5] == [
        f"{JOB} ended FAILED after 1:30:00",
        "Drift failed: no champion",
        "finetune on 10% of the labels: top-1 39.1%",
        "Better.",
        "Registered as version 7 of simclr.",
    ]


def test_what_another_runner_left_is_read_and_broken_it_is_named(tmp_path):
    status = json.dumps({**FAILED, "pipelineJobResourceName": "projects/0/locations/rehearsal/pipelineJobs/run-1"})
    given = {"runs": str(tmp_path), "region": "us-central1", "configuration": "", "now": NOW}
    assert summarise(status, **given)["nodes"] is None
    (tmp_path / "run-1").mkdir()
    details = [{"taskName": "Pretrain", "state": "FAILED", "error": {"message": "out of memory"}}]
    (tmp_path / "run-1" / "job.json").write_text(json.dumps({"jobDetail": {"taskDetails": details}}))
    assert summarise(status, **given)["failed"] == [{"node": "Pretrain", "error": "out of memory"}]
    (tmp_path / "run-1" / "job.json").write_text("{")
    summary = summarise(status, **given)
    assert summary["failed"][0]["node"] == "Push"
    assert "how the nodes went: Expecting" in summary["unread"][0]


def test_component_writes_the_file_into_a_folder_that_was_not_there_and_its_words_into_the_log(tmp_path, caplog):
    status = json.dumps({**FAILED, "pipelineJobResourceName": "run-1"})
    destination = tmp_path / "runs" / "summaries"
    told = {"final_status": status, "destination": str(destination), "runs": str(tmp_path), "region": "us-central1",
            "configuration": ""}  # fmt: skip
    with caplog.at_level(logging.INFO, logger="absl"):
        component.RunSummary_Executor().Do({}, {}, told)
    assert json.loads((destination / "run-1.json").read_text())["state"] == "FAILED"
    assert "run-1 ended FAILED" in caplog.text
