"""Deploying: what lies below the pipeline root is what a submission sends, and it says if it is not whole."""

import json

import fake_storage
import golden_job
import golden_requests
import pytest
from click.testing import CliRunner
from fake_vertex import as_json
from google.cloud.aiplatform_v1 import types

from pipeline import cli
from pipeline.runners import job_template, vertex, vertex_deploy
from pipeline.runners.job_template import TemplateError
from pipeline.runners.vertex_calls import ServiceError
from trainer.config import ConfigError

URI = "gs://my-bucket/runs/deployed/job.json"


@pytest.fixture
def storage(monkeypatch):
    with fake_storage.serving(monkeypatch) as served:
        yield served


def test_what_is_deployed_is_what_a_submission_sends(fake, storage):
    config = golden_requests.config(*golden_requests.OVERRIDES, "vertex.pipeline_root=gs://my-bucket/runs/")
    made = vertex_deploy.deploy(config, "unused")
    template = job_template.load(storage.contents[URI])
    assert (made.uri, made.digest) == (URI, template.digest)
    assert template.pipeline == "simclr"
    assert fake.calls == []
    vertex.submit(config, "unused")
    [request] = fake.called("CreatePipelineJob")
    assert as_json(types.PipelineJob.from_json(json.dumps(template.job))) == as_json(request.pipeline_job)


def test_same_pipeline_is_the_same_file_and_another_is_another(fake, storage):
    vertex_deploy.deploy(golden_requests.config(), "unused")
    first = storage.contents[URI]
    vertex_deploy.deploy(golden_requests.config(), "unused")
    assert storage.contents[URI] == first
    other = vertex_deploy.deploy(golden_requests.config("vertex.failure_policy=fast"), "unused")
    assert storage.contents[URI] != first
    assert other.digest != job_template.load(first).digest


def test_without_an_account_nothing_is_deployed(fake, storage):
    with pytest.raises(ConfigError, match=r"vertex\.service_account = null: must be given to deploy"):
        vertex_deploy.deploy(golden_requests.config("vertex.service_account=null"), "unused")
    assert storage.contents == {}


def test_refused_upload_is_told(fake, storage):
    storage.refusals = [403]
    with pytest.raises(ServiceError, match=r"deploy: .*refused my-bucket"):
        vertex_deploy.deploy(golden_requests.config(), "unused")


def test_command_says_what_is_deployed_and_starts_nothing(fake, storage):
    done = CliRunner().invoke(cli.main, ["deploy", "--no-preflight", "--config", str(golden_job.EXAMPLE)])
    assert done.exit_code == 0, done.output
    assert done.stdout == f"deployed {URI}\ndigest {job_template.load(storage.contents[URI]).digest}\n"
    assert fake.calls == []


JOB = {"displayName": "simclr", "pipelineSpec": {"pipelineInfo": {"name": "simclr"}}}


def changed(**fields):
    return json.dumps(json.loads(job_template.dump(job_template.make(JOB))) | fields).encode()


def named(name):
    return job_template.dump(job_template.make({"pipelineSpec": {"pipelineInfo": {"name": name}}}))


def test_template_is_read_as_it_was_written():
    assert job_template.load(job_template.dump(job_template.make(JOB))) == job_template.make(JOB)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        job_template.dump(job_template.make(JOB))[:-20],
        changed(digest="0" * 64),
        changed(digest=None),
        changed(job=JOB | {"serviceAccount": "other@my-project.iam.gserviceaccount.com"}),
        changed(job="simclr"),
        changed(job={}),
        named('simclr" OR state="x'),
        named(7),
    ],
)
def test_what_is_no_whole_template_is_refused(content):
    with pytest.raises(TemplateError, match="`make deploy` again"):
        job_template.load(content)
