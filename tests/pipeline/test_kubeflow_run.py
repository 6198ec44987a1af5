"""Starting a run on Kubeflow Pipelines: its unmodified client against a small server on loopback."""

import json

import fake_kubeflow
import golden_job
import loopback
import pytest
from click.testing import CliRunner

from pipeline import cli
from pipeline.runners import kubeflow, kubeflow_run
from trainer.config import ConfigError


@pytest.fixture
def server(monkeypatch):
    with fake_kubeflow.serving(monkeypatch) as served:
        yield served


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    return golden_job.compiled_example(tmp_path_factory.mktemp("compiled"))


@pytest.fixture
def submit(compiled, monkeypatch):
    monkeypatch.setattr(kubeflow, "compile_pipeline", lambda *_, **__: compiled)

    def command(*arguments):
        config = ["--config", str(golden_job.EXAMPLE)]
        return CliRunner().invoke(cli.main, ["submit", "--runner", "kubeflow", *config, *arguments])

    return command


def test_command_sends_the_compiled_pipeline_and_prints_the_page(server, submit):
    done = submit("--host", server.url, "--set", "vertex.experiment=nightly")
    assert done.exit_code == 0, done.output
    assert done.stdout == f"submitted r1\n{server.url}/#/runs/details/r1\n"
    bodies = {call.path: json.loads(call.body) for call in server.calls if call.body}
    assert bodies["/apis/v2beta1/experiments"]["display_name"] == "nightly"
    run = bodies["/apis/v2beta1/runs"]
    assert (run["display_name"], run["experiment_id"]) == ("simclr", "e1")
    spec = run["pipeline_spec"]
    tasks = {name for name, _ in kubeflow.tasks(spec.get("pipeline_spec", spec))}
    assert {"Pretrain", "LinearEval", "RunSummary"} <= tasks


def test_refusal_is_told_with_the_servers_words(server, submit):
    server.refusal = "pipeline spec is invalid"
    done = submit("--host", server.url)
    assert done.exit_code == 1
    assert "refused the run: 400" in done.stderr and "pipeline spec is invalid" in done.stderr


def test_no_server_is_told_once(submit, monkeypatch, caplog):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with loopback.serving(fake_kubeflow.FakeKubeflow().answer) as url:
        pass
    done = submit("--host", url)
    assert done.exit_code == 1
    assert "does not answer" in done.stderr
    assert [record for record in caplog.records if record.name.startswith("urllib3")] == []


@pytest.mark.parametrize(
    "host", ["localhost:8888", "ftp://localhost", "http://", "http://localhost:http", "http://[x"]
)
def test_host_that_is_no_url_is_refused(host):
    with pytest.raises(ConfigError, match="must be the URL"):
        kubeflow_run.submit(None, "unused", host=host)
