"""RunSummary asks Vertex AI how the nodes of its run went, and writes what it knows where it gets no answer."""

import datetime
import json

import fake_vertex
import golden_requests
import grpc
import pytest
from google.cloud.aiplatform_v1 import types

from components.run_summary.summary import in_words, summarise
from pipeline.runners import vertex

NOW = datetime.datetime(2026, 3, 2, 3, 30, tzinfo=datetime.timezone.utc)

pytestmark = pytest.mark.usefixtures("waits")


@pytest.fixture
def job(fake):
    """The name of a run whose gate has failed: begun at half past one, by the fake's clock."""
    name = vertex.submit(golden_requests.config(), "unused").name
    job = fake.jobs[name]
    job.start_time = fake.now
    for step in (
        fake_vertex.node("tfx-dag", "FAILED", start_s=0, end_s=700),
        fake_vertex.node("Transform", "SKIPPED", start_s=60, end_s=61),
        fake_vertex.node("AnomalyGate-labeled", "FAILED", start_s=90, end_s=100, error="exited with status 1"),
        fake_vertex.node("RunSummary", "RUNNING", start_s=701),
    ):
        step(job)
    return name


def _summary(name, region="us-central1"):
    status = {
        "state": "FAILED",
        "pipelineJobResourceName": name,
        "pipelineTaskName": "tfx-dag",
        "error": {"code": 9, "message": "The failed tasks are: [AnomalyGate-labeled]."},
    }
    return summarise(json.dumps(status), runs="nowhere", region=region, configuration="", now=NOW)


def test_failed_node_has_vertex_ais_error_and_the_run_its_duration_and_its_page(job):
    summary = _summary(job)
    assert summary["failed"] == [{"node": "AnomalyGate-labeled", "error": "exited with status 1"}]
    assert [(node["name"], node["state"], node["seconds"]) for node in summary["nodes"]] == [
        ("Transform", "SKIPPED", 1.0),
        ("AnomalyGate-labeled", "FAILED", 10.0),
    ]
    assert summary["seconds"] == 2 * 60 * 60
    assert summary["links"]["console"].startswith("https://console.cloud.google.com/vertex-ai/locations/us-central1/")
    assert "AnomalyGate-labeled failed: exited with status 1" in in_words(summary)


def test_results_are_read_where_vertex_ai_says_that_they_are(fake, job, tmp_path):
    decision = {"blessed": True, "reason": "Better.", "pushed": "gs://b/pushed/3", "version": "3"}
    (tmp_path / "decision.json").write_text(json.dumps(decision))
    fake_vertex.node("Push", "SUCCEEDED", start_s=1, end_s=2)(fake.jobs[job])
    made = types.PipelineTaskDetail.ArtifactList(artifacts=[types.Artifact(uri=str(tmp_path))])
    fake.jobs[job].job_detail.task_details[-1].outputs["pushed_model"] = made
    assert _summary(job)["results"]["decision"] == decision


def test_busy_vertex_ai_is_asked_again(fake, job):
    fake.refuse("GetPipelineJob", grpc.StatusCode.UNAVAILABLE, times=2)
    assert len(_summary(job)["nodes"]) == 2


def test_refusal_is_named_and_the_summary_has_what_is_known(fake, job):
    fake.refuse("GetPipelineJob", grpc.StatusCode.PERMISSION_DENIED, "denied")
    summary = _summary(job)
    assert (summary["nodes"], summary["failed"]) == (None, [{"node": "AnomalyGate-labeled", "error": ""}])
    [problem] = summary["unread"]
    assert "denied" in problem and "roles/aiplatform.user" in problem


def test_job_of_another_region_or_runner_is_asked_of_nobody(fake, job):
    asked = len(fake.calls)
    assert _summary(job, region="europe-west4")["nodes"] is None
    assert _summary("run-7")["nodes"] is None
    assert len(fake.calls) == asked
