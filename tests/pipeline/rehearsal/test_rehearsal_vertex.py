"""A submitted job is really run: by the rehearsal, behind a Vertex AI on loopback, followed by the real client."""

import io
import json
import re

import golden_requests
import pytest
from fake_runs import Runs
from rich.console import Console

from pipeline.runners import kubeflow, vertex, vertex_follow
from pipeline.runners.vertex_calls import ServiceError

WRITE = "output_uri('model').write_text('made')"
READ = "print(input_uri('model').read_text())"


@pytest.fixture
def run(fake, job, tmp_path, monkeypatch):
    """Submits the job that the test has made and follows it; returns what was shown."""
    folder = tmp_path / "vertex"
    folder.mkdir()
    runs = Runs(fake, folder)
    job.json |= {"displayName": "by-hand", "labels": {}}
    job.json["pipelineSpec"]["sdkVersion"] = "tfx-1.16"

    def compile_pipeline(config, directory, **_):
        return kubeflow.Compiled(job.write(tmp_path), tmp_path / "unused.yaml")

    def submit_and_follow() -> str:
        monkeypatch.setattr(kubeflow, "compile_pipeline", compile_pipeline)
        config, shown = golden_requests.config(), io.StringIO()
        made = vertex.submit(config, "unused")
        assert made.is_new
        client = vertex.pipeline_client(config.vertex)
        vertex_follow.follow(client, made.name, config.vertex, console=Console(file=shown), wait=runs.wait)
        return shown.getvalue()

    submit_and_follow.folder = folder
    return submit_and_follow


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
