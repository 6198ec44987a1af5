"""Jobs of Vertex AI by REST: found, listed while they are active, started once."""

import json
import threading

import fake_vertex_rest
import golden_job
import grpc
import pytest
from fake_vertex import FakeVertex
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud.aiplatform_v1 import types

from components.google_calls import RETRY
from pipeline.runners.google_rest import Rest
from pipeline.runners.vertex_jobs import Jobs, job_id

PLACE = "projects/my-project/locations/us-central1"
JOB = json.loads(golden_job.GOLDEN.read_text())


@pytest.fixture
def fake():
    return FakeVertex()


@pytest.fixture
def jobs(fake):
    rest = Rest(AnonymousCredentials(), retry=RETRY, attempt_timeout_s=10)
    with fake_vertex_rest.serving(fake) as address:
        yield Jobs(rest, "my-project", "us-central1", address=address)


def ended(fake, run_id, state):
    fake.jobs[f"{PLACE}/pipelineJobs/{run_id}"].state = types.PipelineState[f"PIPELINE_STATE_{state}"]


def test_id_is_of_all_parts_and_of_where_one_ends():
    ids = [job_id(*parts) for parts in (("a", "b"), ("b", "a"), ("ab",), ("a", "b", ""), (b"a",))]
    assert len(set(ids)) == len(ids)
    assert job_id("a", "b") == job_id(b"a", "b") == "simclr-59b271ae1bbcb1d3"


def test_job_is_started_once_and_found_in_whatever_state_it_is(fake, jobs):
    assert jobs.find("one") is None
    made = jobs.start("one", JOB)
    assert (made.name, made.state, made.is_new) == (f"{PLACE}/pipelineJobs/one", "PENDING", True)
    ended(fake, "one", "FAILED")
    again = jobs.start("one", JOB)
    assert (again.name, again.state, again.is_new) == (made.name, "FAILED", False)
    assert len(fake.called("CreatePipelineJob")) == 1


def test_what_somebody_else_made_since_we_looked_is_not_ours(fake, jobs):
    first_look = threading.Barrier(2, timeout=10)
    find = jobs.find
    looks = []

    def both_have_looked(run_id):
        found = find(run_id)
        looks.append(run_id)
        if len(looks) <= 2:
            first_look.wait()
        return found

    jobs.find = both_have_looked
    made = []
    threads = [threading.Thread(target=lambda: made.append(jobs.start("one", JOB))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(job.is_new for job in made) == [False, True]
    assert len(fake.called("CreatePipelineJob")) == 2 and len(fake.jobs) == 1


def test_what_an_attempt_without_an_answer_made_is_ours(fake, jobs, waits):
    fake.refuse("CreatePipelineJob", grpc.StatusCode.UNAVAILABLE, after=True)
    assert jobs.start("one", JOB).is_new
    assert len(fake.called("CreatePipelineJob")) == 2 and len(fake.jobs) == 1


def test_conflict_over_no_job_is_told(fake, jobs):
    fake.refuse("CreatePipelineJob", grpc.StatusCode.ALREADY_EXISTS, "of another kind")
    with pytest.raises(exceptions.AlreadyExists, match="of another kind"):
        jobs.start("one", JOB)


@pytest.mark.parametrize("state", ["QUEUED", "PENDING", "RUNNING", "CANCELLING", "PAUSED"])
def test_job_that_has_not_ended_is_active(fake, jobs, state):
    jobs.start("one", JOB)
    ended(fake, "one", state)
    assert jobs.active("simclr").name.endswith("/one")
    assert jobs.active("another") is None


@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED", "CANCELLED"])
def test_job_that_has_ended_is_not_active(fake, jobs, state):
    jobs.start("one", JOB)
    ended(fake, "one", state)
    assert jobs.active("simclr") is None


def test_active_job_is_found_whatever_the_service_makes_of_the_filter(fake, jobs, monkeypatch):
    for run_id in ("one", "two", "three"):
        jobs.start(run_id, JOB)
    ended(fake, "one", "SUCCEEDED")
    ended(fake, "two", "FAILED")
    monkeypatch.setattr("fake_vertex._is_taken", lambda conditions, job: True)
    assert jobs.active("simclr").name.endswith("/three")
    assert [request.page_token for request in fake.called("ListPipelineJobs")] == ["", "2"]
    assert {tuple(request.read_mask.paths) for request in fake.called("ListPipelineJobs")} == {("name", "state")}


def test_silence_and_nobody_there_are_tried_again(jobs, waits):
    rest = Rest(AnonymousCredentials(), retry=RETRY.with_timeout(0.0), attempt_timeout_s=10)
    with pytest.raises(exceptions.RetryError) as error:
        Jobs(rest, "my-project", "us-central1", address="http://127.0.0.1:1").find("one")
    assert "127.0.0.1:1" in str(error.value.cause)


def test_refusal_has_the_name_that_the_service_gives_it(fake, jobs):
    fake.refuse("GetPipelineJob", grpc.StatusCode.PERMISSION_DENIED, "not you")
    with pytest.raises(exceptions.PermissionDenied, match="not you") as error:
        jobs.find("one")
    assert error.value.code == 403
