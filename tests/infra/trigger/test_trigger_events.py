"""/new-data and /run: what starts a run, what does not, once for each occasion, and never beside one that goes on."""

import json
import re
import threading

import grpc
import pytest
from google.cloud.aiplatform_v1 import types
from trigger_world import BUCKET, GOLDEN, JOB, TEMPLATE, binary, finalized, structured

from infra.trigger.runs import Outcome, Runs
from pipeline.runners import job_template
from pipeline.runners.vertex_jobs import job_id

DUE = {"X-CloudScheduler-ScheduleTime": "2026-03-02T03:00:00Z", "X-CloudScheduler-JobName": "simclr"}


def end(world, state="SUCCEEDED"):
    for job in world.vertex.jobs.values():
        job.state = types.PipelineState[f"PIPELINE_STATE_{state}"]


@pytest.mark.parametrize("mode", [binary, structured])
def test_marker_starts_what_was_deployed(world, service, mode):
    whole = json.loads(GOLDEN.read_text())
    digest = world.deploy(whole)
    answer = service(**mode(finalized()))
    assert answer.status_code == 200
    [request] = world.vertex.called("CreatePipelineJob")
    assert request.parent == "projects/my-project/locations/us-central1"
    assert answer.json == {"status": "started", "job": request.pipeline_job_id, "state": "PENDING"}
    assert re.fullmatch("simclr-[0-9a-f]{16}", request.pipeline_job_id)
    job = request.pipeline_job
    assert job.service_account == JOB["serviceAccount"]
    assert job.runtime_config.gcs_output_directory == "gs://my-bucket/runs"
    own = {"simclr-by": "new-data", "simclr-template": digest[:16]}
    assert dict(job.labels) == JOB["labels"] | own
    sent = types.PipelineJob.from_json(json.dumps(whole))
    assert job.pipeline_spec == sent.pipeline_spec and job.display_name == "simclr"


@pytest.mark.parametrize(
    "name", ["photos/1.jpg", "_SUCCESS.txt", "a_SUCCESS", "_SUCCESS/", "_SUCCESS/1.jpg", "_success", ""]
)
def test_every_other_object_is_answered_at_once_and_asks_nobody(world, tell, name):
    answer = tell(finalized(name))
    assert (answer.status_code, answer.data) == (204, b"")
    assert world.vertex.calls == []


def test_same_event_again_and_in_the_other_mode_starts_nothing_more(world, service):
    first = service(**binary(finalized()))
    again = service(**structured(finalized(), id="another id"))
    assert again.status_code == 200
    assert again.json == {"status": "already started", "job": first.json["job"], "state": "PENDING"}
    end(world, "FAILED")
    assert service(**binary(finalized())).json["state"] == "FAILED"
    assert len(world.vertex.called("CreatePipelineJob")) == 1


def test_another_folder_content_or_bucket_is_another_run(world, tell):
    told = [finalized(), finalized(generation="8"), finalized("_SUCCESS"), finalized("more/photos/_SUCCESS")]
    ids = set()
    for data in told:
        ids.add(tell(data).json["job"])
        end(world)
    assert len(ids) == len(told) == len(world.vertex.jobs)


def test_generation_is_the_same_as_text_and_as_a_number(tell):
    assert tell(finalized(generation="7")).json["job"] == tell(finalized(generation=7)).json["job"]


@pytest.mark.parametrize("state", ["QUEUED", "PENDING", "RUNNING", "CANCELLING"])
def test_event_during_a_run_is_sent_again_later_and_then_starts(world, tell, state):
    first = tell(finalized()).json["job"]
    end(world, state)
    busy = tell(finalized(generation="8"))
    assert busy.status_code == 429 and first in busy.json["error"]
    assert busy.headers["Retry-After"] == "600"
    end(world)
    assert tell(finalized(generation="8")).json["status"] == "started"


def test_run_of_another_pipeline_is_in_nobodys_way(world, tell):
    other = json.loads(json.dumps(JOB))
    other["pipelineSpec"]["pipelineInfo"]["name"] = "other"
    world.deploy(other)
    tell(finalized())
    world.deploy()
    assert tell(finalized(generation="8")).json["status"] == "started"


def at_once(*calls):
    answers, together = [], threading.Barrier(len(calls), timeout=10)

    def ask(call):
        together.wait()
        answers.append(call())

    threads = [threading.Thread(target=ask, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return answers


def test_one_event_delivered_many_times_at_once_starts_one_run(world, tell):
    answers = at_once(*[lambda: tell(finalized())] * 6)
    assert [answer.status_code for answer in answers] == [200] * 6
    assert sorted(answer.json["status"] for answer in answers) == ["already started"] * 5 + ["started"]
    assert len(world.vertex.called("CreatePipelineJob")) == 1


def test_of_two_uploads_at_once_one_waits(world, tell):
    answers = at_once(lambda: tell(finalized()), lambda: tell(finalized(generation="8")))
    assert sorted(answer.status_code for answer in answers) == [200, 429]
    assert len(world.vertex.jobs) == 1


def test_what_another_instance_started_meanwhile_is_already_started(world, tell, monkeypatch):
    tell(finalized())
    # As if it had not been there yet when we looked.
    world.vertex.refuse("GetPipelineJob", grpc.StatusCode.NOT_FOUND)
    monkeypatch.setattr("fake_vertex._is_taken", lambda conditions, job: False)
    answer = tell(finalized())
    assert (answer.status_code, answer.json["status"]) == (200, "already started")
    assert len(world.vertex.called("CreatePipelineJob")) == 2


def test_start_that_takes_too_long_for_another_is_busy(monkeypatch):
    monkeypatch.setattr("infra.trigger.runs._LONGEST_WAIT_S", 0)
    starts = Runs(None, None)
    with starts._lock:
        assert starts.start("one", by="new-data").outcome is Outcome.BUSY
    # And is let go of by a start that fails.
    with pytest.raises(AttributeError):
        starts.start("one", by="new-data")
    assert not starts._lock.locked()


def test_clock_starts_one_run_for_each_time_that_is_due(world, service):
    first = service("/run", headers=DUE)
    assert (first.status_code, first.json["status"]) == (200, "started")
    assert world.vertex.called("CreatePipelineJob")[0].pipeline_job.labels["simclr-by"] == "schedule"
    assert service("/run", headers=DUE).json == first.json | {"status": "already started"}
    end(world)
    later = service("/run", headers=DUE | {"X-CloudScheduler-ScheduleTime": "2026-03-09T03:00:00.000001+01:00"})
    assert later.json["status"] == "started" and later.json["job"] != first.json["job"]


def test_clock_skips_what_comes_due_during_a_run(world, service, tell):
    running = tell(finalized()).json["job"]
    answer = service("/run", headers=DUE)
    assert (answer.status_code, answer.json) == (200, {"status": "skipped", "job": running, "state": "PENDING"})
    assert len(world.vertex.jobs) == 1


@pytest.mark.parametrize("due", [None, "", "now", "2026-03-02", "2026-03-02T03:00:00", "2026-03-02T03:00:00Z" * 2])
def test_clock_that_does_not_tell_the_time_is_refused(world, service, due):
    headers = {"X-CloudScheduler-ScheduleTime": due} if due is not None else {}
    assert service("/run", headers=headers).status_code == 400
    assert world.vertex.calls == []


def test_what_was_deployed_last_is_started(world, tell):
    changed = JOB | {"displayName": "changed"}
    digest = world.deploy(changed)
    tell(finalized())
    [request] = world.vertex.called("CreatePipelineJob")
    assert request.pipeline_job.display_name == "changed"
    assert request.pipeline_job.labels["simclr-template"] == digest[:16]


def of(**fields):
    return job_template.dump(job_template.make(JOB | fields))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "is not there: `make deploy` first"),
        (b"{}", "`make deploy` again"),
        (of().replace(b'"displayName": "simclr"', b'"displayName": "simclr2"'), "its job has the digest"),
        (of(serviceAccount="admin@my-project.iam.gserviceaccount.com"), "its serviceAccount is 'admin@my-project"),
        (of(serviceAccount=None), "its serviceAccount is None"),
        (of(runtimeConfig={"gcsOutputDirectory": "gs://elsewhere/runs"}), "its gcsOutputDirectory is 'gs://elsewhere"),
        (of(runtimeConfig=None), "its gcsOutputDirectory is ''"),
    ],
)  # fmt: skip
def test_nothing_but_a_whole_template_of_this_account_and_root_is_started(world, tell, content, words):
    world.storage.contents.pop(TEMPLATE)
    if content is not None:
        world.storage.put(TEMPLATE, content=content)
    answer = tell(finalized())
    # Sent again, so that an upload is not lost to a deployment that comes later.
    assert answer.status_code == 503 and words in answer.json["error"]
    assert world.vertex.called("CreatePipelineJob") == []


@pytest.fixture
def impatient(environment):
    """A service, if made after this, that asks once."""
    environment.setattr("infra.trigger.app._RETRY_S", 0.0)


BUSY = [grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED]
METHODS = ["GetPipelineJob", "ListPipelineJobs", "CreatePipelineJob"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("code", BUSY)
def test_busy_vertex_ai_is_asked_again(world, tell, waits, method, code):
    world.vertex.refuse(method, code, times=2)
    assert tell(finalized()).json["status"] == "started"
    assert len(waits) == 2


@pytest.mark.parametrize("code", BUSY)
def test_vertex_ai_that_stays_busy_is_tried_again_by_the_sender(world, impatient, tell, code):
    world.vertex.refuse("CreatePipelineJob", code, "try later")
    answer = tell(finalized())
    assert answer.status_code == 503 and "try later" in answer.json["error"]


def test_lost_answer_of_vertex_ai_starts_one_run(world, tell, waits):
    world.vertex.refuse("CreatePipelineJob", grpc.StatusCode.DEADLINE_EXCEEDED, after=True)
    assert tell(finalized()).json["status"] == "started"
    assert len(world.vertex.jobs) == 1


@pytest.mark.parametrize("method", METHODS)
def test_missing_role_is_told_with_where_it_is_written_and_tried_again_by_the_sender_only(world, tell, waits, method):
    world.vertex.refuse(method, grpc.StatusCode.PERMISSION_DENIED, "aiplatform.pipelineJobs denied")
    answer = tell(finalized())
    assert answer.status_code == 500
    assert "docs/infra.md" in answer.json["error"] and "aiplatform.pipelineJobs denied" in answer.json["error"]
    assert len(world.vertex.called(method)) == 1 and waits == []


def test_job_that_vertex_ai_does_not_take_is_told(world, tell):
    world.vertex.refuse("CreatePipelineJob", grpc.StatusCode.INVALID_ARGUMENT, "no such machine")
    answer = tell(finalized())
    assert answer.status_code == 500 and "no such machine" in answer.json["error"]


@pytest.mark.parametrize(("code", "status"), [(403, 500), (503, 503), (0, 503)])
def test_bucket_that_cannot_be_read_is_told(world, impatient, tell, code, status):
    world.storage.refusals = [code]
    assert tell(finalized()).status_code == status
    assert world.vertex.called("CreatePipelineJob") == []


def test_id_of_a_run_is_of_the_marker_alone(world, tell):
    assert tell(finalized()).json["job"] == job_id("new-data", BUCKET, "photos/_SUCCESS", "7")
