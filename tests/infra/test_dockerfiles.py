"""The images' recipes: the linter, and what only this project knows. Docker isn't needed, and nothing is built."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "infra" / "docker"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
HADOLINT = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")

WITH_THE_PROJECT = [path for path in DOCKERFILES if path.name != "trigger.Dockerfile"]

each_dockerfile = pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
needs_hadolint = pytest.mark.skipif(
    HADOLINT is None, reason="hadolint isn't installed; 'make environment' installs it"
)


def lint(dockerfile):
    return subprocess.run([HADOLINT, str(dockerfile)], capture_output=True, text=True, check=False)


def instructions(text):
    """(instruction, arguments) in order, lines joined and comments left out."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines()]


def stages(dockerfile):
    """What a stage does, by its name, in order."""
    found = {}
    for instruction, arguments in instructions(dockerfile.read_text()):
        if instruction == "FROM":
            steps = found.setdefault(arguments.split(" AS ")[1], [])
        elif found:
            steps.append((instruction, arguments))
    return found


def locked_versions(package):
    """Of the stack of Python 3.10 and of the one of later Pythons."""
    return re.findall(rf'^name = "{package}"\nversion = "(.+)"$', (ROOT / "uv.lock").read_text(), re.MULTILINE)


@needs_hadolint
@each_dockerfile
def test_linter_has_nothing_to_say(dockerfile):
    done = lint(dockerfile)
    assert done.returncode == 0, done.stdout


@needs_hadolint
def test_linter_refuses_an_image_without_a_tag(tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM python\n")
    assert "DL3006" in lint(tmp_path / "Dockerfile").stdout


@each_dockerfile
def test_every_image_that_it_begins_with_has_a_tag(dockerfile):
    images = dict(re.findall(r"^ARG (\w+_IMAGE)=(\S+)$", dockerfile.read_text(), re.MULTILINE))
    begun_with = {arguments.split()[0] for name, arguments in instructions(dockerfile.read_text()) if name == "FROM"}
    assert begun_with == {f"${{{name}}}" for name in images}
    for image in images.values():
        assert re.fullmatch(r"[a-z0-9_/.]+:(?!latest)[\w.-]+", image), image


@each_dockerfile
def test_last_stage_begins_with_a_slim_python(dockerfile):
    text = dockerfile.read_text()
    assert re.search(r"^ARG PYTHON_IMAGE=python:3\.\d+-slim-(bookworm|trixie)$", text, re.MULTILINE)
    assert re.findall(r"^FROM (.*)$", text, re.MULTILINE)[-1] == "${PYTHON_IMAGE} AS runtime"


@each_dockerfile
def test_last_stage_runs_as_nobody_in_particular_and_has_no_compiler(dockerfile):
    name, steps = list(stages(dockerfile).items())[-1]
    assert name == "runtime"
    users = [arguments for instruction, arguments in steps if instruction == "USER"]
    assert users == ["10001"]  # a number: Kubernetes cannot see that a name isn't root's
    assert "apt-get" not in str(steps)
    assert steps.index(("USER", "10001")) < [instruction for instruction, _ in steps].index("ENTRYPOINT")


def commands(dockerfile):
    return " & ".join(step for name, step in stages(dockerfile)["builder"] if name == "RUN")


@each_dockerfile
def test_what_is_installed_is_hashed_and_compiled(dockerfile):
    for install in re.findall(r"pip install ([^&]*)", commands(dockerfile)):
        assert "--require-hashes" in install
    assert all("--locked" in sync for sync in re.findall(r"uv sync ([^&]*)", commands(dockerfile)))
    assert any(name == "ENV" and "UV_COMPILE_BYTECODE=1" in step for name, step in stages(dockerfile)["builder"])


@pytest.mark.parametrize("dockerfile", WITH_THE_PROJECT, ids=lambda path: path.stem)
def test_dependencies_are_without_the_developers_tools(dockerfile):
    syncs = re.findall(r"uv sync ([^&]*)", commands(dockerfile))
    assert len(syncs) == 2
    assert all("--locked --extra pipeline --no-dev" in sync for sync in syncs)
    assert "--no-install-project" in syncs[0] and "--no-editable" in syncs[1]


def test_service_that_starts_runs_has_its_own_group_of_dependencies_only():
    syncs = re.findall(r"uv sync ([^&]*)", commands(DOCKER / "trigger.Dockerfile"))
    assert [set(sync.split()) for sync in syncs] == [{"--locked", "--only-group", "trigger", "--no-install-project"}]


@each_dockerfile
def test_what_is_copied_exists_and_is_sent_to_docker(dockerfile):
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for name, arguments in instructions(dockerfile.read_text()):
        if name == "COPY" and "--from" not in arguments:
            for source in arguments.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert any(source == path or source.startswith(f"{path}/") for path in sent), source


def test_launcher_of_dataflows_workers_is_of_the_locked_beam():
    text = (DOCKER / "pipeline.Dockerfile").read_text()
    older, newer = locked_versions("apache-beam")
    assert "ARG PYTHON_IMAGE=python:3.13-slim-trixie\n" in text
    assert f"ARG BEAM_IMAGE=apache/beam_python3.13_sdk:{newer}\n" in text
    assert (
        f"PYTHON_IMAGE=python:3.10-slim-bookworm --build-arg BEAM_IMAGE=apache/beam_python3.10_sdk:{older}\n" in text
    )
    runtime = stages(DOCKER / "pipeline.Dockerfile")["runtime"]
    assert ("COPY", "--from=beam /opt/apache/beam/boot /opt/apache/beam/boot") in runtime
    assert runtime[-1] == ("ENTRYPOINT", '["/opt/apache/beam/boot"]')
    # Dataflow's workers would not find the packages otherwise.
    assert any(name == "ENV" and "RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1" in step for name, step in runtime)


def test_installer_and_tpu_build_are_of_the_versions_used_elsewhere():
    assert re.fullmatch(r"\d+\.\d+\.\d+", version_of("uv.txt", "uv"))
    [install] = re.findall(r"pip install (.*)", (ROOT / "Makefile").read_text())
    assert install.endswith("--require-hashes --requirement infra/docker/uv.txt")
    assert version_of("tpu.txt", "tensorflow-tpu") == locked_versions("tensorflow")[0]
    assert "ARG PYTHON_IMAGE=python:3.10-" in (DOCKER / "tpu.Dockerfile").read_text()


def version_of(requirements, package):
    text = (DOCKER / requirements).read_text()
    assert text.count("--hash=sha256:") >= 1
    return re.search(rf"^{package}==(\S+) ", text, re.MULTILINE)[1]


def test_common_tensorflow_stays_out_of_the_image_for_tpus():
    syncs = re.findall(r"uv sync ([^&]*)", commands(DOCKER / "tpu.Dockerfile"))
    assert all("--no-install-package tensorflow" in sync for sync in syncs)
    assert "--inexact" in syncs[1]
