"""Submitting to Vertex AI: what is sent, once; what is tried again; how refusals read; how a run is followed."""

import io
import json
import logging
import re
import runpy

import golden_http
import golden_job
import golden_requests
import google.auth
import grpc
import pytest
import yaml
from click.testing import CliRunner
from fake_vertex import end, node
from google.cloud import aiplatform
from rich.console import Console

from components import google_calls
from components.vertex_push import endpoint, experiment, pusher, registry
from pipeline import cli
from pipeline.runners import (
    google_rest,
    kubeflow,
    vertex,
    vertex_batch,
    vertex_calls,
    vertex_follow,
    vertex_jobs,
    vertex_registry,
    vertex_schedules,
)
from pipeline.runners.vertex_calls import ServiceError
from pipeline.runners.vertex_jobs import job_id

ACCOUNT = "simclr-pipeline@my-project.iam.gserviceaccount.com"
BUSY = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
PLACE = "projects/my-project/locations/us-central1"


def submit(*overrides, **arguments):
    return vertex.submit(golden_requests.config(*overrides), "unused", **arguments)


def refused(*overrides) -> str:
    with pytest.raises(ServiceError) as error:
        submit(*overrides)
    return str(error.value)


@pytest.mark.parametrize("golden", [golden_requests, golden_http])
def test_requests_are_the_golden_ones(golden):
    assert golden.sent() == json.loads(golden.GOLDEN.read_text()), "look, then `make golden`"


def test_submission_reaches_the_region_with_account_labels_root_and_policy(fake):
    made = submit("vertex.region=europe-west4", "vertex.failure_policy=fast")
    [request] = fake.called("CreatePipelineJob")
    assert request.parent == "projects/my-project/locations/europe-west4"
    assert set(fake.hosts) == {"europe-west4-aiplatform.googleapis.com:443"}
    job = request.pipeline_job
    assert (job.service_account, job.network, job.encryption_spec.kms_key_name) == (ACCOUNT, "", "")
    assert job.labels["team"] == "vision"
    assert job.runtime_config.gcs_output_directory == "gs://my-bucket/runs"
    assert job.runtime_config.failure_policy.name == "PIPELINE_FAILURE_POLICY_FAIL_FAST"
    assert made.is_new and made.state == "PENDING"
    assert made.link == (
        "https://console.cloud.google.com/vertex-ai/locations/europe-west4/pipelines/runs/"
        f"{request.pipeline_job_id}?project=my-project"
    )


def test_submission_a_second_time_finds_the_first_and_sends_nothing(fake):
    first = submit()
    fake.jobs[first.name].state = aiplatform.gapic.PipelineState.PIPELINE_STATE_FAILED
    second = submit()
    assert (second.name, second.is_new, second.state) == (first.name, False, "FAILED")
    assert len(fake.called("CreatePipelineJob")) == 1


def test_another_run_key_or_another_pipeline_is_another_run(fake, tmp_path):
    assert len({submit(run_key=key).name for key in ("", "2026-03-02", "2026-03-03")}) == 3
    other = tmp_path / "pipeline.json"
    other.write_text(golden_job.GOLDEN.read_text().replace("vision", "sound"))
    assert job_id(other.read_bytes(), "") != job_id(golden_job.GOLDEN.read_bytes(), "")
    assert re.fullmatch("[a-z][-a-z0-9]{0,127}", job_id(other.read_bytes(), "Any Text!"))


def test_both_compiled_forms_leave_no_parameter_to_be_filled_at_submission():
    job, kubeflows = json.loads(golden_job.GOLDEN.read_text()), yaml.safe_load(golden_job.GOLDEN_YAML.read_text())
    for root in (job["pipelineSpec"]["root"], kubeflows["root"]):
        assert set(root) == {"dag"}
    assert set(job["runtimeConfig"]) == {"gcsOutputDirectory"}


def test_run_becomes_one_of_its_experiment(fake):
    made = submit("vertex.experiment=nightly")
    contexts = f"{PLACE}/metadataStores/default/contexts"
    run_id = made.name.rpartition("/")[2]
    assert fake.children == [(f"{contexts}/nightly", f"{contexts}/{run_id}")]
    assert fake.contexts[f"{contexts}/nightly"].schema_title == "system.Experiment"


@pytest.mark.parametrize("code", BUSY)
@pytest.mark.parametrize("method", ["GetPipelineJob", "CreatePipelineJob"])
def test_busy_service_is_asked_again_after_growing_waits(fake, waits, code, method):
    fake.refuse(method, code, times=3)
    assert submit().is_new
    assert len(fake.called(method)) == 4
    assert len(waits) == 3 and max(waits) <= 30


def test_busy_metadata_is_asked_again(fake, waits):
    fake.refuse("CreateContext", grpc.StatusCode.UNAVAILABLE)
    fake.refuse("AddContextChildren", grpc.StatusCode.UNAVAILABLE)
    submit("vertex.experiment=nightly")
    assert len(fake.children) == 1
    assert len(fake.called("CreatePipelineJob")) == 1


def test_answer_lost_after_the_job_was_made_makes_no_second(fake, waits):
    fake.refuse("CreatePipelineJob", grpc.StatusCode.DEADLINE_EXCEEDED, after=True)
    made = submit("vertex.experiment=nightly")
    assert made.is_new and list(fake.jobs) == [made.name]
    assert len(fake.children) == 1


@pytest.mark.parametrize(("code", "words"), [(BUSY[0], "quota"), (BUSY[1], "does nothing twice")])
def test_service_that_stays_busy_is_given_up_in_words(fake, monkeypatch, code, words):
    monkeypatch.setitem(vertex_calls.CALL, "retry", vertex_calls.RETRY.with_timeout(0.0))
    fake.refuse("CreatePipelineJob", code, "try later")
    message = refused()
    assert words in message and "try later" in message


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("Permission 'aiplatform.pipelineJobs.create' denied", "projects add-iam-policy-binding my-project"),
        (f"You do not have permission to act as service account {ACCOUNT}", "roles/iam.serviceAccountUser"),
        ("Vertex AI API has not been used in project 12 before", "gcloud services enable aiplatform.googleapis.com"),
    ],
)  # fmt: skip
def test_refused_permission_names_role_account_and_command_and_is_not_tried_again(fake, message, words):
    fake.refuse("CreatePipelineJob", grpc.StatusCode.PERMISSION_DENIED, message)
    said = refused()
    assert message in said and words in said
    assert len(fake.called("CreatePipelineJob")) == 1


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNAVAILABLE])
def test_bad_credentials_are_told_at_once(fake, code):
    fake.refuse("GetPipelineJob", code, "Getting metadata from plugin failed with error: expired")
    assert "gcloud auth application-default login" in refused()
    assert len(fake.called("GetPipelineJob")) == 1


def test_no_credentials_are_told(fake, monkeypatch):
    def none(*_, **__):
        raise google.auth.exceptions.DefaultCredentialsError("none found")

    monkeypatch.setattr(google.auth, "default", none)
    monkeypatch.setattr(aiplatform.initializer.global_config, "_credentials", None)
    assert "gcloud auth application-default login" in refused()


def test_credentials_are_not_looked_for_at_import(monkeypatch):
    def looked(*_, **__):
        raise AssertionError("credentials were looked for")

    monkeypatch.setattr(google.auth, "default", looked)
    ours = (
        google_rest,
        vertex,
        vertex_batch,
        vertex_calls,
        vertex_follow,
        vertex_jobs,
        vertex_registry,
        vertex_schedules,
    )
    for module in (*ours, google_calls, endpoint, experiment, pusher, registry):
        runpy.run_path(module.__file__)


def test_credentials_are_in_no_log(fake, monkeypatch, caplog):
    credentials = google.auth.credentials.Credentials
    secret = type("Secret", (credentials,), {"refresh": lambda self, request: setattr(self, "token", "s3cr3t")})()
    secret.token = "s3cr3t"
    monkeypatch.setattr(google.auth, "default", lambda *_, **__: (secret, "my-project"))
    with caplog.at_level(logging.DEBUG):
        submit("vertex.experiment=nightly")
    assert "s3cr3t" not in caplog.text
    assert "s3cr3t" not in str(fake.called("CreatePipelineJob"))


def follow(fake, *steps, terminal=False):
    """Follows a run that goes through these steps; returns what was shown and the waits."""
    made = submit()
    fake.script(*steps)
    shown, waited = io.StringIO(), []
    console = Console(file=shown, force_terminal=terminal, width=100)
    settings = golden_requests.config().vertex
    vertex_follow.follow(vertex.pipeline_client(settings), made.name, settings, console=console, wait=waited.append)
    return shown.getvalue(), waited


def test_follow_shows_each_node_with_state_and_seconds_until_the_run_is_done(fake):
    shown, waited = follow(
        fake,
        node("ImageExampleGen-labeled", "SKIPPED", start_s=1, end_s=2),
        node("Pretrain", "RUNNING", start_s=10),
        node("tfx-dag", "RUNNING", start_s=0),
        node("Pretrain", "SUCCEEDED", start_s=10, end_s=95),
        end("SUCCEEDED"),
    )
    assert len(waited) == 4
    lines = [line.strip() for line in shown.splitlines()]
    assert lines[:3] == ["ImageExampleGen-labeled cached", "Pretrain running", "Pretrain done"]
    assert any(re.fullmatch(r"│ Pretrain +│ done +│ +85 │", line) for line in lines)
    assert any(re.fullmatch(r"│ Report +│ waiting │ +│", line) for line in lines)
    assert "tfx-dag" not in shown


def test_follow_on_a_terminal_draws_the_table_anew(fake):
    shown, _ = follow(fake, node("Pretrain", "RUNNING", start_s=10), end("SUCCEEDED"), terminal=True)
    assert shown.count("ImageExampleGen-unlabeled") >= 2
    assert "Pretrain running\n" not in shown


def test_failed_run_is_an_error_with_the_nodes_name_and_message(fake):
    with pytest.raises(ServiceError, match=r"^Pretrain failed: out of memory$"):
        follow(
            fake,
            node("Pretrain", "FAILED", start_s=1, error="out of memory"),
            end("FAILED", "a task failed"),
        )


def test_cancelled_run_is_an_error_with_its_state(fake):
    with pytest.raises(ServiceError, match="ended CANCELLED"):
        follow(fake, end("CANCELLED"))


def test_follow_goes_on_when_the_service_is_busy(fake, waits):
    made = submit()
    fake.refuse("GetPipelineJob", grpc.StatusCode.UNAVAILABLE, times=2)
    fake.script(end("SUCCEEDED"))
    settings = golden_requests.config().vertex
    vertex_follow.follow(vertex.pipeline_client(settings), made.name, settings, console=Console(file=io.StringIO()))
    assert len(waits) == 2


def test_job_can_be_listed_and_cancelled_by_the_sdk(fake):
    made = submit()
    [job] = aiplatform.PipelineJob.list(project="my-project", location="us-central1")
    assert job.resource_name == made.name
    job.cancel()
    assert fake.jobs[made.name].state.name == "PIPELINE_STATE_CANCELLED"


def invoke(*arguments):
    # What preflight says and stops has tests of its own.
    return CliRunner().invoke(cli.main, [*arguments, "--no-preflight", "--config", str(golden_job.EXAMPLE)])


def test_command_submits_prints_the_link_and_says_what_was_there(fake, monkeypatch):
    done = invoke("submit", "--run-key", "monday")
    assert done.exit_code == 0, done.output
    [request] = fake.called("CreatePipelineJob")
    assert f"submitted {request.pipeline_job_id}\nhttps://console.cloud.google.com/" in done.stdout
    assert "was submitted before and is PENDING; nothing was sent" in invoke("submit", "--run-key", "monday").stdout


def test_command_waits_and_fails_with_the_run(fake, monkeypatch):
    waits = []
    monkeypatch.setitem(vertex_follow.follow.__kwdefaults__, "wait", waits.append)
    fake.script(lambda job: None, node("Push", "FAILED", error="no bucket"), end("FAILED"))
    invoke("submit")
    done = invoke("submit", "--wait")
    assert done.exit_code == 1
    assert "Push failed: no bucket" in done.stderr
    assert waits == [15]


@pytest.mark.parametrize(
    "arguments",
    [["--host", "http://h"], ["--runner", "kubeflow"], ["--runner", "kubeflow", "--host", "http://h", "--wait"]],
)
def test_options_of_the_other_runner_are_refused(fake, arguments):
    assert invoke("submit", *arguments).exit_code == 2
    assert fake.calls == []


def test_command_compiles_what_it_sends(monkeypatch, tmp_path):
    compile_pipeline = kubeflow.compile_pipeline
    with golden_requests.vertex_ai(monkeypatch) as fake:
        monkeypatch.setattr(kubeflow, "compile_pipeline", compile_pipeline)
        done = invoke("submit", "--output", str(tmp_path))
    assert done.exit_code == 0, done.output
    [request] = fake.called("CreatePipelineJob")
    assert request.pipeline_job_id == job_id((tmp_path / "pipeline.json").read_bytes(), "")
    assert "Pretrain" in (tmp_path / "pipeline.json").read_text()
