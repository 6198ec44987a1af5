"""A submitted job is really run: by the rehearsal, behind a Vertex AI on loopback, followed by the real client."""

import datetime
import io
import json
import os
import re

import golden_requests
import pytest
from fake_runs import Runs
from rich.console import Console

from pipeline.runners import kubeflow, vertex, vertex_follow, vertex_schedules
from pipeline.runners.vertex_calls import ServiceError

WRITE = "output_uri('model').write_text('made')"
READ = "print(input_uri('model').read_text())"


@pytest.fixture
def runs(fake, job, tmp_path, monkeypatch):
    """What runs the job that the test has made, from now on the one that is compiled."""
    folder = tmp_path / "vertex"
    folder.mkdir()
    job.json |= {"displayName": "by-hand", "labels": {}}
    job.json["pipelineSpec"]["sdkVersion"] = "tfx-1.16"

    def compile_pipeline(config, directory, **_):
        return kubeflow.Compiled(job.write(tmp_path), tmp_path / "unused.yaml")

    monkeypatch.setattr(kubeflow, "compile_pipeline", compile_pipeline)
    return Runs(fake, folder)


@pytest.fixture
def run(runs, tmp_path):
    """Submits the job and follows it; returns what was shown."""

    def submit_and_follow() -> str:
        made = vertex.submit(golden_requests.config(), "unused")
        assert made.is_new
        return follow(runs, made.name)

    submit_and_follow.folder = tmp_path / "vertex"
    return submit_and_follow


def follow(runs, name):
    config, shown = golden_requests.config(), io.StringIO()
    client = vertex.pipeline_client(config.vertex)
    vertex_follow.follow(client, name, config.vertex, console=Console(file=shown), wait=runs.wait)
    return shown.getvalue()


def test_submitted_job_runs_its_containers_and_is_followed_to_its_end(run, job):
    job.container("First", WRITE, outputs=("model",))
    job.container("Second", READ, inputs={"model": "First.model"})
    shown = run()
    states = re.findall(r"^(First|Second) (running|done)$", shown, flags=re.MULTILINE)
    assert states == [("First", "running"), ("First", "done"), ("Second", "running"), ("Second", "done")]
    assert "made" in (run.folder / "logs" / "Second.log").read_text()


def test_node_that_fails_ends_the_run_with_its_name_and_its_last_words(run, job):
    job.container("First", "sys.exit('no space left')", outputs=("model",))
    job.container("Second", READ, inputs={"model": "First.model"})
    with pytest.raises(ServiceError, match=r"(?s)^First failed: its container ended with exit code 1.*no space left"):
        run()
    assert not (run.folder / "logs" / "Second.log").exists()


def test_job_that_would_not_run_is_refused_with_the_node(run, job):
    job.container("Second", READ, inputs={"model": "First.model"})
    with pytest.raises(ServiceError, match="the run ended FAILED: Second: it depends on the task 'First'"):
        run()
    assert json.loads((run.folder / "job.json").read_text())["pipelineSpec"]["pipelineInfo"]["name"] == "by-hand"


def test_scheduled_job_runs_its_containers(runs, fake, job):
    job.container("First", WRITE, outputs=("model",))
    made = vertex_schedules.schedule(golden_requests.config(), "0 3 * * *", "unused")
    assert fake.jobs == {}
    fake.advance(fake.now + datetime.timedelta(days=1))
    [(name, started)] = fake.jobs.items()
    assert started.schedule_name == made.resource
    assert "First done" in follow(runs, name)


def test_cancelled_job_begins_no_further_container_and_stays_cancelled(runs, fake, job, tmp_path):
    go_on = tmp_path / "go_on"
    os.mkfifo(go_on)
    job.container("First", f"open({str(go_on)!r}).read(); {WRITE}", outputs=("model",))
    job.container("Second", READ, inputs={"model": "First.model"})
    config = golden_requests.config()
    made, client = vertex.submit(config, "unused"), vertex.pipeline_client(config.vertex)
    runs.wait(0)  # until the first has started
    client.cancel_pipeline_job(name=made.name)
    go_on.write_text("on")
    runs.join()
    assert (tmp_path / "vertex" / "logs" / "First.log").exists()
    assert not (tmp_path / "vertex" / "logs" / "Second.log").exists()
    assert fake.jobs[made.name].state.name == "PIPELINE_STATE_CANCELLED"
