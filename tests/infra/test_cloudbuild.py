"""Cloud Build's file: its shape, its order, make's targets, and the scripts with a docker and a make that listen."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.reference import fields

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
ORDER = ["test", "build", "start-image", "start-trigger", "rehearse", "push", "compile", "deploy", "submit"]
TARGETS = {"test", "compile", "deploy", "submit"}
STEP_FIELDS = {"id", "name", "waitFor", "entrypoint", "args", "script", "env"}
BUILD_FIELDS = {"steps", "substitutions", "serviceAccount", "timeout", "options"}
OPTIONS = {"logging", "machineType", "diskSizeGb", "dynamicSubstitutions", "automapSubstitutions"}
GIVEN_BY_CLOUD_BUILD = {"PROJECT_ID", "COMMIT_SHA"}
IMAGE = "us-central1-docker.pkg.dev/my-project/simclr/pipeline:c0ffee"
TRIGGER_IMAGE = "us-central1-docker.pkg.dev/my-project/simclr/trigger:c0ffee"
TPU_IMAGE = "us-central1-docker.pkg.dev/my-project/simclr/trainer-tpu:c0ffee"
BASE_IMAGES = "--build-arg PYTHON_IMAGE={} --build-arg BEAM_IMAGE={}"
OLDER_STACK = {"_PYTHON": "3.10", "_DEBIAN": "bookworm", "_BEAM": "2.64.0"}
NEWER = BASE_IMAGES.format("python:3.13-slim-trixie", "apache/beam_python3.13_sdk:2.74.0").split()
SETTINGS = f"vertex.project=my-project vertex.image={IMAGE}"
ON_TPU = f"{SETTINGS} vertex.pretraining.image={TPU_IMAGE}"


@pytest.fixture(scope="module")
def build():
    return yaml.safe_load((INFRA / "cloudbuild.yaml").read_text())


def test_build_has_the_shape_that_cloud_build_takes(build):
    assert set(build) == BUILD_FIELDS
    assert set(build["options"]) == OPTIONS
    assert re.fullmatch(r"\d+s", build["timeout"])
    assert all(isinstance(value, str) for value in build["substitutions"].values())
    assert all(re.fullmatch(r"_[A-Z0-9_]+", name) for name in build["substitutions"])
    for step in build["steps"]:
        assert {"id", "name"} <= set(step) <= STEP_FIELDS, step["id"]
        # A script replaces the entry point: Cloud Build takes one or the other.
        assert ("script" in step) != bool({"entrypoint", "args"} & set(step)), step["id"]
        assert step.get("script", "#!").startswith("#!")


def test_steps_wait_for_each_other_in_order(build):
    assert [step["id"] for step in build["steps"]] == ORDER
    assert [step.get("waitFor", []) for step in build["steps"]] == [[], *([name] for name in ORDER[:-1])]


def test_every_substitution_that_is_used_is_declared_and_the_other_way_round(build):
    text = (INFRA / "cloudbuild.yaml").read_text()
    commands = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    used = set(re.findall(r"\$\{?(_?[A-Z][A-Z0-9_]+)\b", commands))
    assert used - set(build["substitutions"]) == GIVEN_BY_CLOUD_BUILD
    assert set(build["substitutions"]) - used == set()


def test_steps_make_the_targets_that_they_are_named_for(build):
    assert {
        target for step in build["steps"] for target in re.findall(r"\bmake (\S+)", step.get("script", ""))
    } == TARGETS


def test_every_make_target_exists():
    there = set(re.findall(r"^\.PHONY: (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert there >= TARGETS


def test_every_setting_given_to_the_compiler_is_a_field():
    assert {setting.split("=")[0] for setting in ON_TPU.split()} <= {field.path for field in fields()}


def substituted(build, **given):
    """The variables that a script sees, those in the values of others filled in."""
    values = {"PROJECT_ID": "my-project", "COMMIT_SHA": "c0ffee", **build["substitutions"], **given}
    for _ in values:
        for name, value in values.items():
            values[name] = re.sub(r"\$\{(\w+)\}", lambda match: values[match[1]], value)
    return values


@pytest.fixture
def run(build, tmp_path):
    """Runs the script of a step; returns what it would have called and what it printed."""
    for tool in ("docker", "make"):
        listener = tmp_path / "bin" / tool
        listener.parent.mkdir(exist_ok=True)
        listener.write_text(f'#!/bin/bash\nprintf "%s|" {tool} "$@" >> "$CALLS"; echo >> "$CALLS"\n'
                            '[ "$1" != "$FAILING" ]\n')  # fmt: skip
        listener.chmod(0o755)
    calls = tmp_path / "calls"

    def run_step(name, *, failing="none", **given):
        step = next(step for step in build["steps"] if step["id"] == name)
        (tmp_path / "step.sh").write_text(step["script"])
        calls.write_text("")
        environment = substituted(build, **given) | dict(pair.split("=") for pair in step.get("env", []))
        done = subprocess.run(
            [shutil.which("bash"), "../step.sh"],
            env={"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.defpath}", "CALLS": str(calls), "FAILING": failing,
                 **environment},
            cwd=workspace, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, [line.split("|")[:-1] for line in calls.read_text().splitlines()], done.stdout

    workspace = tmp_path / "workspace"
    workspace.mkdir()
    return run_step


def test_step_makes_its_target(run):
    assert run("test") == (0, [["make", "test"]], "")


def test_image_is_built_and_pushed_under_its_commit(run):
    _, built, _ = run("build")
    assert built == [
        ["docker", "build", "--file", "infra/docker/pipeline.Dockerfile", *NEWER, "--tag", IMAGE, "."],
        ["docker", "build", "--file", "infra/docker/trigger.Dockerfile", "--tag", TRIGGER_IMAGE, "."],
    ]
    assert all((ROOT / call[3]).exists() for call in built)
    assert run("push") == (0, [["docker", "push", IMAGE], ["docker", "push", TRIGGER_IMAGE]], "")


def test_image_for_tpus_is_built_where_the_hash_of_libtpu_is_given(run):
    _, built, _ = run("build", _LIBTPU_SHA256="abc", **OLDER_STACK)
    images = BASE_IMAGES.format("python:3.10-slim-bookworm", "apache/beam_python3.10_sdk:2.64.0").split()
    assert built[0][4:8] == images
    assert built[2] == ["docker", "build", "--file", "infra/docker/tpu.Dockerfile",
                        "--build-arg", "LIBTPU_SHA256=abc", "--tag", TPU_IMAGE, "."]  # fmt: skip
    assert (ROOT / built[2][3]).exists()
    assert run("push", _LIBTPU_SHA256="abc")[1] == [
        ["docker", "push", image] for image in (IMAGE, TRIGGER_IMAGE, TPU_IMAGE)
    ]


def test_image_for_tpus_is_not_built_beside_the_newer_stack(run):
    code, built, said = run("build", _LIBTPU_SHA256="abc")
    assert code != 0 and built == []
    assert "_PYTHON=3.10,_DEBIAN=bookworm,_BEAM=2.64.0" in said


def test_dockerfile_and_build_begin_with_the_same_images(build):
    text = (INFRA / "docker" / "pipeline.Dockerfile").read_text()
    assert [f"--build-arg={pair}" for pair in re.findall(r"^ARG (\w+_IMAGE=\S+)$", text, re.MULTILINE)] == [
        f"{option}={image}" for option, image in zip(NEWER[::2], NEWER[1::2], strict=True)
    ]


@pytest.mark.parametrize("sha256, settings", [("", SETTINGS), ("abc", ON_TPU)], ids=["plain", "tpu"])
def test_what_is_deployed_and_submitted_is_what_was_compiled_with_the_images_of_the_commit(run, sha256, settings):
    arguments = ["CONFIG=infra/vertex.example.yaml", f"SET={settings}"]
    assert run("compile", _LIBTPU_SHA256=sha256)[1] == [["make", "compile", *arguments]]
    assert run("deploy", _LIBTPU_SHA256=sha256, _DEPLOY="true")[1] == [["make", "deploy", *arguments]]
    assert run("submit", _LIBTPU_SHA256=sha256, _SUBMIT="true")[1] == [["make", "submit", *arguments]]


def test_nothing_is_deployed_or_submitted_unless_asked_for(run):
    assert run("deploy") == (0, [], "_DEPLOY is false: compiled, not deployed\n")
    assert run("submit") == (0, [], "_SUBMIT is false: compiled, not submitted\n")


@pytest.mark.parametrize(
    "step, failing",
    [("test", "test"), ("build", "build"), ("push", "push"), ("compile", "compile")],
)
def test_failure_fails_its_step(run, step, failing):
    assert run(step, failing=failing)[0] != 0


def test_failed_deployment_or_submission_fails_its_step(run):
    run("compile")
    assert run("deploy", failing="deploy", _DEPLOY="true")[0] != 0
    assert run("submit", failing="submit", _SUBMIT="true")[0] != 0


@pytest.mark.parametrize(
    "name, command", [("start-image", ["--help"]), ("rehearse", ["rehearse", "--output", "/home/simclr/rehearsal"])]
)
def test_image_is_started_and_rehearses_isolated_from_the_checkout(build, name, command):
    step = next(step for step in build["steps"] if step["id"] == name)
    assert step["name"] == "${_REGISTRY}/pipeline:${COMMIT_SHA}"
    assert [step["entrypoint"], *step["args"]] == ["python", "-I", "-m", "pipeline", *command]
    # The only folder that the image's user may write to.
    assert "--create-home --uid 10001 simclr" in (INFRA / "docker" / "pipeline.Dockerfile").read_text()


def test_command_that_starts_the_pipelines_image_runs_with_this_environment(build, tmp_path):
    step = next(step for step in build["steps"] if step["id"] == "start-image")
    done = subprocess.run([sys.executable, *step["args"]], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_compile_step_with_the_real_make_leaves_the_job_of_its_images(build, tmp_path):
    step = next(step for step in build["steps"] if step["id"] == "compile")
    environment = os.environ | substituted(build) | {"OUTPUT": str(tmp_path / "compiled")}
    done = subprocess.run(
        ["bash", "-c", step["script"].replace("settings.txt", "/dev/null")],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    job = json.loads(next((tmp_path / "compiled").glob("*.json")).read_text())
    executors = job["pipelineSpec"]["deploymentSpec"]["executors"].values()
    assert {executor["container"]["image"] for executor in executors if "container" in executor} == {IMAGE}


@pytest.mark.parametrize("name, asked_for", [("deploy", "_DEPLOY"), ("submit", "_SUBMIT")])
def test_step_with_the_real_make_fails_with_what_preflight_says(build, tmp_path, name, asked_for):
    """Which needs no credentials for a machine that the region has not."""
    example = (INFRA / "vertex.example.yaml").read_text()
    assert "region: us-central1" in example
    (tmp_path / "config.yaml").write_text(example.replace("region: us-central1", "region: europe-north1"))
    (tmp_path / "settings.txt").write_text(SETTINGS)
    script = next(step["script"] for step in build["steps"] if step["id"] == name)
    given = {"_CONFIG": str(tmp_path / "config.yaml"), asked_for: "true"}
    done = subprocess.run(
        ["bash", "-c", script.replace("settings.txt", str(tmp_path / "settings.txt"))],
        cwd=ROOT, env=os.environ | substituted(build, **given), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0 and re.search(rf": {name}\] Error 2$", done.stderr, re.MULTILINE)
    assert "NVIDIA_TESLA_T4" in done.stderr and "nothing was sent" in done.stderr


def test_example_of_the_environment_names_variables_that_exist(build):
    hcl2 = pytest.importorskip("hcl2", reason="python-hcl2 isn't installed; 'make environment' installs it")
    lines = (INFRA / "env.example").read_text().splitlines()
    names = {name for line in lines for name in re.findall(r"^(?:# )?(\w+)=", line)}
    for environment in ("dev", "prod"):
        blocks = hcl2.loads((INFRA / "terraform" / "envs" / environment / "variables.tf").read_text())["variable"]
        declared = {name.strip('"') for block in blocks for name in block}
        assert {name.removeprefix("TF_VAR_") for name in names if name.startswith("TF_VAR_")} <= declared
    done = subprocess.run(["bash", "-c", f"set -eu; source {INFRA / 'env.example'}; echo $TF_VAR_budget_emails"],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.stdout == '["me@example.com"]\n', done.stderr


def documented(beginning):
    """The commands of docs/infra.md that begin so, block by block."""
    text = (ROOT / "docs" / "infra.md").read_text()
    blocks = [block.replace("\\\n", "").splitlines() for block in re.findall(r"^```\n(.*?)^```", text, re.M | re.S)]
    found = [[line for line in block if line.startswith(beginning)] for block in blocks]
    return [commands for commands in found if commands]


def test_documented_build_hands_on_all_that_the_environment_says_which_begins_as_the_build_does(build, tmp_path):
    [[command]] = documented("gcloud builds submit")
    for tool, line in (("gcloud", 'printf "%s\\n" "$@"'), ("git", "echo c0ffee")):
        (tmp_path / tool).write_text(f"#!/bin/bash\n{line}\n")
        (tmp_path / tool).chmod(0o755)
    program = f"set -eua; source {INFRA / 'env.example'}; set +a; {command}"
    path = {"PATH": f"{tmp_path}{os.pathsep}{os.defpath}"}
    done = subprocess.run(["bash", "-c", program], env=path, capture_output=True, text=True, check=True)
    handed_on = dict(pair.split("=", 1) for pair in done.stdout.splitlines()[-1].split(","))
    text = (INFRA / "env.example").read_text()
    example = dict(re.findall(r"^(_\w+)=(.*)$", text, re.MULTILINE))
    assert handed_on == {"COMMIT_SHA": "c0ffee", **example}
    assert example.items() <= build["substitutions"].items()
    assert "With a TPU TFX 1.16 and the SHA-256 of libtpu.so: " + ", ".join(OLDER_STACK.values()) in text


def test_images_that_are_documented_together_are_of_one_stack():
    """As the build itself would make them."""
    plain, with_tpu = [{line.split()[3]: line for line in commands} for commands in documented("docker build -f")]
    pipeline, trigger, tpu = (f"infra/docker/{name}.Dockerfile" for name in ("pipeline", "trigger", "tpu"))
    assert set(plain) == {pipeline, trigger} and set(with_tpu) == {pipeline, trigger, tpu}
    older = BASE_IMAGES.format("python:3.10-slim-bookworm", "apache/beam_python3.10_sdk:2.64.0").split()
    assert (
        "--build-arg" not in plain[pipeline]
        and [word for word in with_tpu[pipeline].split() if word in older] == older
    )
    assert "ARG PYTHON_IMAGE=python:3.10-slim-bookworm\n" in (ROOT / tpu).read_text()
