"""What the service is put into: its variables, its addresses, its image; Terraform and the code say the same."""

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import terraform_files
import tomli
import yaml
from trigger_world import AUDIENCE, ENVIRONMENT
from werkzeug.routing import Map

from infra.trigger import app, identity, runs, server, settings
from infra.trigger.app import Application
from infra.trigger.settings import SettingsError

ROOT = Path(__file__).parents[3]
DOCKERFILE = ROOT / "infra" / "docker" / "trigger.Dockerfile"
GIVEN_BY_CLOUD_RUN = {"K_SERVICE"}
HEAVY = ("tensorflow", "tfx", "kfp", "apache_beam", "grpc", "numpy", "pydantic", "google.cloud", "trainer")


@pytest.fixture(scope="module")
def template():
    [template] = module("trigger").resources["google_cloud_run_v2_service.this"]["template"]
    return template


@pytest.fixture(scope="module")
def container(template):
    [container] = template["containers"]
    return container


@cache
def module(name):
    return terraform_files.read(ROOT / "infra" / "terraform" / "modules" / name)


class Listening(dict):
    """Variables that remember which of them were asked for."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.asked = set()

    def get(self, name, default=None):
        self.asked.add(name)
        return super().get(name, default)


def test_variables_that_terraform_sets_are_those_that_the_service_reads(container):
    environment = Listening(ENVIRONMENT)
    settings.from_environment(environment)
    assert {variable["name"] for variable in container["env"]} == environment.asked - GIVEN_BY_CLOUD_RUN


def test_values_that_terraform_writes_out_are_ones_that_the_service_takes(container):
    defaults = module("trigger").variables
    written = {variable["name"]: variable["value"] for variable in container["env"]}
    assert written["REMOVED_SIGNATURES"] == "accept"
    assert written["MARKER"] == "${var.marker}"
    given = ENVIRONMENT | {"REMOVED_SIGNATURES": "accept", "MARKER": defaults["marker"]["default"]}
    assert settings.from_environment(given).accepts_removed_signatures is True


def test_signatures_may_be_missing_only_where_cloud_run_checks_every_caller():
    resources = module("trigger").resources
    service = resources["google_cloud_run_v2_service.this"]
    assert service.get("invoker_iam_disabled", False) is False
    members = [
        resource["member"] for name, resource in resources.items() if "google_cloud_run_v2_service_iam" in name
    ]
    assert members == ["serviceAccount:${var.invoker}"]


def routes():
    mapped = Application(settings.from_environment(ENVIRONMENT), None, None)._routes
    assert isinstance(mapped, Map)
    return {rule.rule for rule in mapped.iter_rules()}


def test_paths_that_are_called_are_there(container):
    [trigger] = module("trigger").resources["google_eventarc_trigger.this"]["destination"]
    [target] = module("schedule").resources["google_cloud_scheduler_job.this"]["http_target"]
    [probe] = container["startup_probe"]
    called = {
        trigger["cloud_run_service"][0]["path"],
        target["uri"].removeprefix("${var.uri}"),
        probe["http_get"][0]["path"],
    }
    assert called == routes()
    assert target["http_method"] == "POST"


def test_token_of_the_schedule_is_for_the_service():
    [target] = module("schedule").resources["google_cloud_scheduler_job.this"]["http_target"]
    [token] = target["oidc_token"]
    assert token == {"service_account_email": "${var.invoker}", "audience": "${var.uri}"}
    assert settings.from_environment(ENVIRONMENT).audience.fullmatch(AUDIENCE)


def test_one_process_answers_as_many_requests_at_once_as_are_let_in(template):
    assert template["scaling"][0]["max_instance_count"] == 1
    assert server.workers == 1
    assert server.threads == template["max_instance_request_concurrency"]


def test_answer_comes_before_cloud_run_gives_up(template):
    one_call_s = app._RETRY_S + app._ATTEMPT_TIMEOUT_S
    longest_s = identity._KEYS_TIMEOUT_S + 4 * one_call_s
    assert longest_s < int(template["timeout"].removesuffix("s"))
    assert runs._LONGEST_WAIT_S + longest_s < 180  # of Cloud Scheduler
    assert module("schedule").resources["google_cloud_scheduler_job.this"]["attempt_deadline"] == "180s"


@pytest.mark.parametrize("name", ENVIRONMENT)
@pytest.mark.parametrize("value", [None, "", "\n", "not what it should be!/"])
def test_service_that_is_told_too_little_or_nonsense_does_not_start(name, value):
    environment = {**ENVIRONMENT, name: value}
    if value is None:
        del environment[name]
    with pytest.raises(SettingsError, match=f"^{name} = .*: must be "):
        settings.from_environment(environment)


def test_service_looks_at_its_variables_before_it_answers_anybody(environment):
    environment.setenv("INVOKER", "")
    with pytest.raises(SettingsError, match="INVOKER = ''"):
        app.create_app()


def copied(into):
    """The files of the image, as its recipe copies them."""
    text = re.sub(r"\\\n\s*", "", DOCKERFILE.read_text())
    after = text[text.index("WORKDIR /opt/service") :]
    for line in re.findall(r"^COPY (?!--from)(.*)$", after, re.MULTILINE):
        *sources, target = line.split()
        for source in sources:
            place = into / target / Path(source).name if target.endswith("/") else into / target
            place.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, place)


def locked_group():
    """Names of all packages of the group `trigger`, as the lock file has them."""
    packages = tomli.loads((ROOT / "uv.lock").read_text())["package"]

    def locked(name, version=None):
        """A package that is locked once, or the one of that version."""
        return next(found for found in packages if found["name"] == name and version in (None, found["version"]))

    found, wanted = set(), list(locked("simclr-pipeline")["dev-dependencies"]["trigger"])
    while wanted:
        needed = wanted.pop()
        package = locked(needed["name"], needed.get("version"))
        found.add(needed["name"])
        extras = [part for extra in needed.get("extra", []) for part in package["optional-dependencies"][extra]]
        wanted += [part for part in [*package.get("dependencies", []), *extras] if part["name"] not in found]
    return found


def linked(names, into):
    """A folder with these installed packages and no others; `google` is shared by many, so it is made of links."""
    for name in names:
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # for another platform
        for path in distribution.files:
            depth = 2 if path.parts[0] == "google" else 1
            part = Path(*path.parts[:depth])
            if ".." not in path.parts and len(path.parts) >= depth and not (into / part).exists():
                (into / part).parent.mkdir(parents=True, exist_ok=True)
                (into / part).symlink_to(distribution.locate_file(part))


def test_image_holds_what_the_service_imports_all_of_it_and_no_tensorflow(tmp_path):
    service, packages = tmp_path / "service", tmp_path / "packages"
    copied(service)
    names = locked_group()
    assert len(names) < 25
    linked(names, packages)
    program = (
        f"import sys; sys.path[:0] = [{str(service)!r}, {str(packages)!r}]\n"
        "import json, gunicorn.app.wsgiapp, infra.trigger.app, infra.trigger.server\n"
        "print(json.dumps({name: getattr(module, '__file__', None) for name, module in sys.modules.items()}))"
    )
    # Without the site packages of this environment.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-W", "ignore", "-c", program],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    modules = json.loads(done.stdout.splitlines()[-1])
    assert not [name for name in modules if name in HEAVY or name.startswith(tuple(f"{heavy}." for heavy in HEAVY))]
    files = {str(path.relative_to(service)) for path in service.rglob("*.py")}
    imported = {
        str(Path(file).relative_to(service)) for file in modules.values() if file and file.startswith(str(service))
    }
    assert imported == files


@pytest.fixture
def started(tmp_path):
    """Runs the build's step that starts the image, on the image's files and packages, in the checkout."""

    def run(lacking=None):
        build = yaml.safe_load((ROOT / "infra" / "cloudbuild.yaml").read_text())
        step = next(step for step in build["steps"] if step["id"] == "start-trigger")
        assert (step["name"], step["entrypoint"]) == ("${_REGISTRY}/trigger:${COMMIT_SHA}", "python")
        copied(tmp_path)
        if lacking:
            (tmp_path / lacking).unlink()
        linked(locked_group(), tmp_path)
        arguments = [argument.replace("/opt/service", str(tmp_path)) for argument in step["args"]]
        # Without the site packages of this environment, by which it finds the checkout.
        command = [sys.executable, "-S", "-W", "ignore", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    return run


def test_build_starts_the_service_from_its_image(started):
    done = started()
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "file", ["infra/trigger/logs.py", "components/google_calls.py", "pipeline/runners/vertex_jobs.py"]
)
def test_build_fails_for_a_file_that_the_image_lacks_and_the_checkout_has(started, file):
    done = started(lacking=file)
    assert done.returncode != 0 and Path(file).stem in done.stderr.splitlines()[-1]
