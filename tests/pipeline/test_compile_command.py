"""`python -m pipeline compile` in a process of its own: same bytes, two lines, nothing of credentials."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import golden_job
import pytest
from click.testing import CliRunner

from pipeline import cli

ROOT = Path(__file__).resolve().parents[2]
SECRETS = ("sEcReTkEyMaTeRiAl", "sEcReTtOkEn", "robot@secret-project.iam.gserviceaccount.com")


@dataclass(frozen=True)
class Finished:
    """A compilation that has ended, and what it looked at."""

    out: str
    err: str
    build: Path
    looked_at: list[str]
    secret_file: str


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Finished:
    """One compilation of the example beside planted credentials, with a fixed order of hashing."""
    folder = tmp_path_factory.mktemp("compile")
    secret = folder / "secret"
    secret.mkdir()
    key, token, account = SECRETS
    credentials = {"type": "service_account", "private_key": key, "client_email": account, "token_uri": "x"}
    (secret / "key.json").write_text(json.dumps(credentials))
    (secret / "application_default_credentials.json").write_text(json.dumps(credentials))
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONHASHSEED": "1",
        "GOOGLE_APPLICATION_CREDENTIALS": str(secret / "key.json"),
        "CLOUDSDK_CONFIG": str(secret),
        "CLOUDSDK_AUTH_ACCESS_TOKEN": token,
        "GOOGLE_OAUTH_TOKEN": token,
    }
    overrides = [argument for override in golden_job.OVERRIDES for argument in ("--set", override)]
    command = ["compile", "--config", str(golden_job.EXAMPLE), *overrides, "--output", str(folder / "build")]
    script = Path(__file__).with_name("watched_compile.py")
    record = folder / "record.json"
    done = subprocess.run(
        [sys.executable, str(script), str(record), str(secret), *command],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    looked_at = json.loads(record.read_text())
    return Finished(done.stdout, done.stderr, folder / "build", looked_at, str(secret / "key.json"))


def test_another_process_with_another_order_of_hashing_writes_the_same_bytes(finished, tmp_path):
    assert os.environ.get("PYTHONHASHSEED") != "1"
    here = golden_job.compiled_example(tmp_path)
    assert here.job.read_bytes() == (finished.build / "pipeline.json").read_bytes()
    assert here.yaml.read_bytes() == (finished.build / "pipeline.yaml").read_bytes()


def test_two_lines_say_where_the_files_are(finished):
    assert finished.out.splitlines()[-2:] == [
        f"Vertex AI: {finished.build / 'pipeline.json'}",
        f"Kubeflow:  {finished.build / 'pipeline.yaml'}",
    ]


def test_nothing_of_the_credentials_is_in_what_is_written_or_said(finished):
    files = list(finished.build.iterdir())
    assert len(files) == 2
    for text in (finished.out, finished.err, *(file.read_text() for file in files)):
        assert not any(secret in text for secret in (*SECRETS, finished.secret_file))


def test_no_credentials_are_looked_at_by_importing_or_compiling(finished):
    assert finished.looked_at == []


def test_watch_sees_a_look_at_credentials(tmp_path):
    (tmp_path / "key.json").write_text("{}")
    program = (
        "import os, sys, watched_compile\n"
        "from pipeline import cli\n"
        "cli.main = lambda *a, **k: (os.environ['CLOUDSDK_CONFIG'], open(sys.argv[2] + '/key.json').close())\n"
        "watched_compile.pkgutil.walk_packages = lambda *a: ()\n"
        "watched_compile.main(*sys.argv[1:])\n"
    )
    record = tmp_path / "record.json"
    here = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{here}", "CLOUDSDK_CONFIG": "x"}
    subprocess.run([sys.executable, "-c", program, str(record), str(tmp_path)], env=environment, check=True)
    assert json.loads(record.read_text()) == ["CLOUDSDK_CONFIG", str(tmp_path / "key.json")]


def test_setting_that_cannot_be_ends_with_code_2_and_a_line(tmp_path):
    done = CliRunner().invoke(
        cli.main, ["compile", "--set", "vertex.region=Nowhere!", "--output", str(tmp_path / "b")]
    )
    assert done.exit_code == 2
    assert "configuration: vertex.region = 'Nowhere!'" in done.stderr
    assert not (tmp_path / "b").exists()


def test_what_compiling_needs_is_asked_for_with_code_2(tmp_path):
    done = CliRunner().invoke(cli.main, ["compile", "--output", str(tmp_path / "b")])
    assert done.exit_code == 2
    assert "vertex.project = null: must be given to compile" in done.stderr
