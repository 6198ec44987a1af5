"""The Model Registry: one version a model however often it is tried, aliases, what is told of refusals."""

import json
import subprocess

import golden_requests
import grpc
import pytest
from fake_registry import Refusal
from pushed_runs import METRICS, MODEL, aliases

from components import google_calls
from components.google_calls import ServiceError
from components.vertex_push import description
from components.vertex_push.component import VertexPusher
from pipeline.runners import compiled, registrar

pytestmark = pytest.mark.usefixtures("waits")


def test_first_upload_makes_the_model_and_later_ones_its_versions(fake, register):
    assert [register(content).version for content in "abc"] == [f"{MODEL}@{number}" for number in (1, 2, 3)]
    first, second, _ = fake.called("UploadModel")
    assert (first.model_id, first.parent_model) == ("simclr", "")
    assert (second.model_id, second.parent_model) == ("", MODEL)
    assert aliases(fake) == {"1": {"default"}, "2": set(), "3": {"candidate"}}


def test_version_says_where_it_comes_from_and_how_good_it_is(fake, register, tmp_path):
    register(commit="0123abcd-dirty", job="Job 7")
    [version] = fake.versions[MODEL]
    assert version.artifact_uri == str(tmp_path / "a")
    assert version.container_spec.image_uri.startswith("us-docker.pkg.dev/vertex-ai/prediction/tf2-cpu")
    assert dict(version.labels) == {
        "team": "vision", "git_commit": "0123abcd-dirty", "run": "job_7", "top1": "0_391", "top5": "0_880",
        "n_test": "500", "n_labels": "200", "images_unlabeled": "1000",
    }  # fmt: skip
    for line in ("top-1 39.1%, top-5 88.0% on 500 test images", "1000 images of 1010 read", "run: Job 7",
                 "commit: 0123abcd-dirty", f"fingerprint: {'a' * 64}", "Good."):  # fmt: skip
        assert line in version.version_description


@pytest.mark.parametrize(
    ("window", "first", "last", "line"), [([7], "7", "7", "spans: 7"), ([2, 3, 5], "2", "5", "spans: 2, 3, 5")]
)
def test_version_says_on_which_spans_it_was_trained(window, first, last, line):
    metrics = METRICS | {"spans": {"decision": "enough", "window": [{"span": number} for number in window]}}
    labels = description.labels(metrics, commit="c", run="r")
    assert [labels[name] for name in ("span_first", "span_last", "n_spans")] == [
        str(window[0]),
        str(window[-1]),
        str(len(window)),
    ]
    assert line in description.description(metrics, commit="c", run="r", reason="", card="").splitlines()
    whole = METRICS | {"spans": None}
    assert "span_first" not in description.labels(whole, commit="c", run="r")
    assert "spans" not in description.description(whole, commit="c", run="r", reason="", card="")


@pytest.mark.parametrize(
    ("arm", "said"),
    [("finetune", "fine-tuned on 200 labels"), ("distill", "distilled from a network fine-tuned on 200 labels")],
)
def test_description_tells_how_what_was_pushed_learned_from_labels(arm, said):
    row = {"arm": arm, "label_fraction": 0.1, "n_labels": 200, "top1": 0.41, "top5": None, "n_test": 500}
    told = METRICS | {"rows": [*METRICS["rows"], row]} if arm == "distill" else METRICS
    lines = description.description(told, commit="c", run="r", reason="", card="").splitlines()
    assert lines[0].startswith(f"SimCLR {said}: top-1 {'41.0' if arm == 'distill' else '39.1'}%")
    assert description.labels(told, commit="c", run="r")["top1"] == ("0_410" if arm == "distill" else "0_391")


def test_model_card_lies_among_the_files_of_the_version_and_stays(fake, register, tmp_path):
    register(job="simclr-1")
    register(job="simclr-2")
    for name in ("model_card.md", "model_card.html"):
        assert (tmp_path / "a" / "assets.extra" / name).read_text() == "card of simclr-1"
    [version] = fake.versions[MODEL]
    assert f"model card: {tmp_path}/a/assets.extra/model_card.html" in version.version_description
    assert register().is_new is False


def test_same_model_again_is_found_on_any_page_and_not_uploaded(fake, register):
    for content in "abc":
        register(content)
    for content, number in zip("abc", "123", strict=True):
        found = register(content, job="another run")
        assert (found.version, found.is_new) == (f"{MODEL}@{number}", False)
    assert len(fake.called("UploadModel")) == 3


def test_model_that_was_kept_back_is_not_uploaded_and_says_so(fake, register):
    result = register(pushed=False)
    assert (result.version, result.reason) == (None, "Not registered: Worse.")
    assert fake.calls == []


@pytest.mark.parametrize("code", [grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE])
@pytest.mark.parametrize("looks_until_done", [0, 3])
@pytest.mark.parametrize("before", ["", "a"])
def test_answer_lost_after_the_upload_was_begun_makes_no_second(fake, register, code, looks_until_done, before):
    for content in before:
        register(content)
    fake.looks_until_done = looks_until_done
    fake.refuse("UploadModel", code, after=True)
    assert register("z").version == f"{MODEL}@{len(before) + 1}"
    assert len(fake.called("UploadModel")) == len(before) + 1


@pytest.mark.parametrize("method", ["ListModelVersions", "UploadModel", "GetOperation", "ListOperations"])
@pytest.mark.parametrize(
    "code", [grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED]
)
def test_busy_registry_is_asked_again(fake, register, waits, method, code):
    fake.looks_until_done = 1
    fake.refuse(method, code, times=2)
    assert register().is_new
    assert len(fake.versions[MODEL]) == 1
    assert len(waits) >= 2


def test_registry_that_stays_busy_and_missing_permissions_are_told(fake, register, monkeypatch):
    fake.refuse("UploadModel", grpc.StatusCode.PERMISSION_DENIED, "aiplatform.models.upload denied")
    with pytest.raises(ServiceError, match=r"(?s)register: aiplatform.models.upload denied.*roles/aiplatform.user"):
        register()
    assert len(fake.called("UploadModel")) == 1
    monkeypatch.setattr(google_calls, "RETRY", google_calls.RETRY.with_timeout(0.0))
    fake.refuse("UploadModel", grpc.StatusCode.UNAVAILABLE, "try later")
    with pytest.raises(ServiceError, match="does nothing twice"):
        register()


@pytest.mark.parametrize("looks_until_done", [0, 3])
def test_upload_that_is_taken_and_then_fails_is_told_and_the_next_attempt_uploads(fake, register, looks_until_done):
    fake.looks_until_done = looks_until_done
    fake.failures.append(Refusal(grpc.StatusCode.INVALID_ARGUMENT, "no saved_model.pb in the folder"))
    with pytest.raises(ServiceError, match=r"register: .*no saved_model\.pb in the folder"):
        register()
    assert fake.versions == {}
    assert register().version == f"{MODEL}@1"
    assert len(fake.called("UploadModel")) == 2


def test_upload_that_fails_for_a_reason_that_passes_is_begun_once_more(fake, register):
    fake.failures.append(Refusal(grpc.StatusCode.UNAVAILABLE, "try later"))
    assert register().version == f"{MODEL}@1"
    assert len(fake.called("UploadModel")) == 2
    assert len(fake.versions[MODEL]) == 1


def test_encryption_and_region_are_the_configured_ones(fake, register):
    key = "projects/p/locations/europe-west4/keyRings/r/cryptoKeys/k"
    register(overrides=("vertex.region=europe-west4", f"vertex.kms_key={key}"))
    [request] = fake.called("UploadModel")
    assert request.model.encryption_spec.kms_key_name == key
    assert set(fake.hosts) == {"europe-west4-aiplatform.googleapis.com:443"}


def test_node_is_there_only_with_a_model_to_register_and_only_on_vertex_ai(tmp_path):
    from pipeline.runners import kubeflow

    base = golden_requests.config("vertex.registry.model=null", "vertex.registry.endpoint=null")
    without = kubeflow.compile_pipeline(base, tmp_path / "without")
    assert "VertexPusher" not in without.job.read_text()
    made = kubeflow.compile_pipeline(golden_requests.config("vertex.registry.model=simclr"), tmp_path / "with")
    assert "VertexPusher" not in made.yaml.read_text()
    job = json.loads(made.job.read_text())
    task = job["pipelineSpec"]["components"]["tfx-dag"]["dag"]["tasks"]["VertexPusher"]
    parameters = {name: value["runtimeValue"]["constant"] for name, value in task["inputs"]["parameters"].items()}
    assert parameters["run"] == "{{$.pipeline_job_name}}"
    assert parameters["commit"] == registrar.git_commit()
    assert json.loads(parameters["target"])["registry"]["model"] == "simclr"
    assert "enableCache" not in task.get("cachingOptions", {})
    assert {"Push", "Report"} <= set(task["dependentTasks"])


def test_rehearsal_registers_nothing(monkeypatch, tmp_path):
    compiled_of = []

    class StopError(Exception):
        pass

    def compile_pipeline(config, *_, **__):
        compiled_of.append((config.vertex.registry.model, config.vertex.experiment))
        raise StopError

    monkeypatch.setattr(compiled, "compile_pipeline", compile_pipeline)
    monkeypatch.setattr(compiled.preflight, "inspect", lambda config: {})
    with pytest.raises(StopError):
        here = ("pretrain.compute.strategy=one_device", "vertex.pretraining.machine_type=null",
                "vertex.pretraining.tpu_topology=null", f"output={tmp_path}")  # fmt: skip
        registered = ("vertex.registry.model=simclr", "vertex.experiment=nightly")
        compiled.run(golden_requests.config(*registered, *here), console=None)
    assert compiled_of == [(None, None)]


def test_commit_tells_of_changed_files_and_without_a_repository_is_what_cloud_build_says(tmp_path, monkeypatch):
    monkeypatch.delenv("COMMIT_SHA", raising=False)
    assert registrar.git_commit(tmp_path) == "unknown"
    monkeypatch.setenv("COMMIT_SHA", "0123abcd")
    assert registrar.git_commit(tmp_path) == "0123abcd"

    def git(*arguments):
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
        done = subprocess.run(
            ["git", *identity, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    git("init")
    (tmp_path / "code.py").write_text("1")
    git("add", ".")
    git("commit", "-m", "first")
    git("tag", "-a", "v1", "-m", "v1")
    assert registrar.git_commit(tmp_path) == git("rev-parse", "HEAD")
    (tmp_path / "code.py").write_text("2")
    assert registrar.git_commit(tmp_path) == git("rev-parse", "HEAD") + "-dirty"


@pytest.mark.parametrize("pushed", [True, False])
def test_component_writes_the_registration_and_its_properties(fake, register, tmp_path, pushed):
    from tfx.types import standard_artifacts

    from components.artifacts import PipelineReport, RegisteredModel

    register(pushed=pushed)

    def artifact(kind, name):
        made = kind()
        made.uri = str(tmp_path / name)
        return made

    output = artifact(RegisteredModel, "registered")
    target = golden_requests.config("vertex.registry.model=simclr").vertex.target
    VertexPusher.EXECUTOR_SPEC.executor_class().Do(
        {
            "pushed_model": [artifact(standard_artifacts.PushedModel, "push")],
            "report": [artifact(PipelineReport, "report")],
        },
        {"registered_model": [output]},
        {"target": target.model_dump_json(), "run": "simclr-1", "commit": "c", "code_version": ""},
    )
    written = json.loads((tmp_path / "registered" / "registration.json").read_text())
    assert written["version"] == (f"{MODEL}@1" if pushed else None)
    assert output.get_int_custom_property("registered") == int(pushed)
    assert output.get_string_custom_property("model_version") == (f"{MODEL}@1" if pushed else "")
