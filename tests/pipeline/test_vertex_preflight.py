"""Preflight without a network: what a configuration alone tells."""

import io
import runpy

import golden_job
import google.auth
import pytest
from click.testing import CliRunner
from preflight_settings import GPU, IN_ITS_NODE, OLD_TPU, T4, TABLE, config, gravest, stands, words
from rich.console import Console

from pipeline import cli
from pipeline.runners import vertex_preflight
from pipeline.runners.vertex_preflight import findings, offline, online, rest
from pipeline.runners.vertex_preflight.findings import Severity

BY_DIGEST = f"us-central1-docker.pkg.dev/my-project/simclr/pipeline@sha256:{'0' * 64}"


@pytest.fixture
def no_credentials(monkeypatch):
    def none(*_, **__):
        raise google.auth.exceptions.DefaultCredentialsError("none found")

    monkeypatch.setattr(google.auth, "default", none)


def test_example_has_no_errors():
    assert not findings.has_errors(offline.check(config(), TABLE))


@pytest.mark.parametrize("field", ["vertex.project", "vertex.pipeline_root", "vertex.image"])
def test_missing_field_is_an_error(field):
    assert gravest(f"{field}=null", of=field) is Severity.ERROR
    assert Severity.ERROR not in stands(offline.check(config(), TABLE), field)


def test_local_path_is_an_error():
    assert gravest("data.test=photos/", of="data.test") is Severity.ERROR
    assert gravest("vertex.pipeline_root=runs", of="vertex.pipeline_root") is Severity.ERROR
    assert gravest(of="data.test") is Severity.OK


@pytest.mark.parametrize(
    "path", ["gs://", "gs:///images", "gs://Images/x", "gs://ab/x", "gs://-images/x", "gs://a b c/x"]
)
@pytest.mark.parametrize("field", ["data.test", "vertex.pipeline_root", "beam.dataflow.temp_location"])
def test_name_that_no_bucket_has_is_an_error(field, path):
    assert "BUCKET" in words(offline.check(config(f"{field}={path}"), TABLE), field)
    assert gravest(f"{field}={path}", of=field) is Severity.ERROR
    for there in ("gs://images", "gs://my_images.2026/x/*.png"):
        assert gravest(f"{field}={there}", of=field) is Severity.OK


def test_region_outside_the_table_is_a_warning_and_its_machines_are_not_refused():
    elsewhere = ("vertex.region=mars-north1", "vertex.image=mars-north1-docker.pkg.dev/p/r/i:v1")
    assert gravest(*elsewhere, of="vertex.region") is Severity.WARNING
    assert gravest(*elsewhere, of="vertex.pretraining.machine_type") is Severity.NOT_CHECKED
    assert gravest(*elsewhere, of="vertex.nodes.classify.accelerator") is Severity.NOT_CHECKED
    assert gravest(of="vertex.region") is Severity.OK


@pytest.mark.parametrize(
    ("image", "severity"),
    [
        (BY_DIGEST, Severity.OK),
        ("us-docker.pkg.dev/my-project/simclr/pipeline:v1", Severity.WARNING),
        ("us-central1-docker.pkg.dev/my-project/simclr/pipeline", Severity.ERROR),
        ("us-central1-docker.pkg.dev/my-project/simclr/pipeline:latest", Severity.ERROR),
        ("localhost:5000/pipeline", Severity.ERROR),
        ("localhost:5000/pipeline:v1", Severity.WARNING),
        ("pipeline@sha256:abc", Severity.ERROR),
        ("us-central1-docker.pkg.dev/my-project/simclr/pipeline:v1:v2", Severity.ERROR),
        ("us-central1-docker.pkg.dev/my-project/simclr/pipe line:v1", Severity.ERROR),
        ("us-central1-docker.pkg.dev/my-project/Simclr/pipeline:v1", Severity.ERROR),
        ("https://us-central1-docker.pkg.dev/my-project/simclr/pipeline:v1", Severity.ERROR),
        ("us-central1-docker.pkg.dev/example.com:my-project/simclr/pipeline:v1", Severity.WARNING),
    ],
)
def test_image_is_wanted_by_digest(image, severity):
    assert gravest(f"vertex.image={image}", of="vertex.image") is severity


def test_image_of_another_region_is_a_warning():
    far = BY_DIGEST.replace("us-central1-", "europe-west4-")
    assert gravest(f"vertex.image={far}", of="vertex.image") is Severity.WARNING
    near = BY_DIGEST.replace("us-central1-", "us-")
    assert gravest(f"vertex.image={near}", of="vertex.image") is Severity.OK


def test_each_image_is_looked_at_once_under_the_field_that_names_it_first():
    same = config().vertex.image
    given = config("vertex.nodes.ingest.image=other:1", f"vertex.nodes.check.image={same}", "beam.dataflow.image=b:1")
    assert list(offline.all_images(given)) == [
        "vertex.image",
        "vertex.pretraining.image",
        "vertex.nodes.ingest.image",
        "beam.dataflow.image",
    ]


@pytest.mark.parametrize(
    ("overrides", "region", "severity"),
    [
        ((), "us-west4", Severity.OK),
        ((), "us-east5", Severity.WARNING),
        ((), "europe-west2", Severity.ERROR),
        ((*OLD_TPU, "vertex.pretraining.accelerator=TPU_V2"), "asia-east1", Severity.OK),
        ((*OLD_TPU, "vertex.pretraining.accelerator=TPU_V3"), "europe-west4", Severity.OK),
        ((*OLD_TPU, "vertex.pretraining.accelerator=TPU_V3"), "asia-east1", Severity.ERROR),
    ],
)
def test_tpu_is_held_against_the_region(overrides, region, severity):
    assert gravest(*overrides, f"vertex.region={region}", of="vertex.pretraining.machine_type") is severity


def test_tpu_without_an_image_of_its_own_is_a_warning():
    assert "infra/docker/tpu.Dockerfile" in words(
        offline.check(config("vertex.pretraining.image=null"), TABLE), "vertex.pretraining.image"
    )
    assert "tpu.Dockerfile" not in words(offline.check(config(), TABLE), "vertex.pretraining.image")


@pytest.mark.parametrize(("tfx", "overrides", "warned"), [("1.16.0", (), 0), ("1.21.0", (), 1), ("1.21.0", T4, 0)])
def test_tpu_is_a_warning_where_what_compiles_is_not_of_its_images_stack(monkeypatch, tfx, overrides, warned):
    monkeypatch.setattr(offline, "version", {"tfx": tfx}.get)
    told = [item for item in offline.check(config(*overrides), TABLE) if "make environment STACK=1.16" in item.words]
    assert [item.severity for item in told] == [Severity.WARNING] * warned


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ((), "2, but none for a node that hires machines"),
        (("vertex.nodes.pretrain.retries=5",), "5, but none for a node that hires machines"),
        (("vertex.nodes.pretrain.retries=0",), ""),
        (IN_ITS_NODE, ""),
    ],
)
def test_retries_that_a_node_with_machines_does_not_get_are_told(overrides, told):
    said = words(offline.check(config(*overrides), TABLE), "vertex.nodes.pretrain.retries")
    assert said.startswith(told) and bool(said) is bool(told)


@pytest.mark.parametrize("machine", ["ct6e-standard-4t", "tpu7x-standard-4t"])
def test_tpu_that_tensorflow_does_not_support_is_refused_with_the_reason(machine):
    done = preflight("--offline", "--set", f"vertex.pretraining.machine_type={machine}")
    assert done.exit_code == 2
    assert "TensorFlow does not support TPUs from v6e on" in done.stderr


@pytest.mark.parametrize(
    ("overrides", "severity"),
    [
        ((), Severity.OK),
        (("vertex.pretraining.accelerator_count=2", "pretrain.compute.strategy=mirrored"), Severity.OK),
        (
            (
                "vertex.pretraining.accelerator_count=3",
                "pretrain.compute.strategy=mirrored",
                "pretrain.batch_size=99",
            ),
            Severity.ERROR,
        ),
        (("vertex.pretraining.machine_type=n1-standard-64",), Severity.ERROR),
        (("vertex.region=us-south1",), Severity.ERROR),
    ],
)
def test_gpu_is_held_against_machine_count_and_region(overrides, severity):
    assert gravest(*T4, *overrides, of="vertex.pretraining.accelerator") is severity


def test_machine_with_gpus_of_its_own_wants_their_number():
    a100 = (*GPU, "vertex.pretraining.machine_type=a2-highgpu-1g", "vertex.pretraining.accelerator=NVIDIA_TESLA_A100")
    assert gravest(*a100, of="vertex.pretraining.accelerator") is Severity.OK
    two = ("vertex.pretraining.machine_type=a2-highgpu-2g",)
    assert gravest(*a100, *two, of="vertex.pretraining.accelerator") is Severity.ERROR
    many = ("vertex.pretraining.accelerator_count=2", "pretrain.compute.strategy=mirrored")
    assert gravest(*a100, *many, of="vertex.pretraining.accelerator") is Severity.ERROR
    none = ("vertex.pretraining.accelerator=null", "vertex.pretraining.accelerator_count=0")
    assert gravest(*a100, *none, of="vertex.pretraining.machine_type") is Severity.ERROR


def test_machine_outside_the_table_is_a_warning_and_without_a_price():
    alone = ("vertex.pretraining.accelerator=null", "vertex.pretraining.accelerator_count=0")
    found = offline.check(config(*T4, *alone, "vertex.pretraining.machine_type=x9-standard-8"), TABLE)
    assert stands(found, "vertex.pretraining.machine_type") == [Severity.WARNING]
    assert stands(found, findings.COST) == [Severity.NOT_CHECKED, Severity.NOTE]
    assert not findings.has_errors(found)


@pytest.mark.parametrize(
    ("machine", "accelerator", "there_are"),
    [
        ("n1-standard-7", "NVIDIA_TESLA_T4", "n1-standard-4, n1-standard-8, "),
        ("a2-highgpu-3g", "NVIDIA_TESLA_A100", "a2-highgpu-1g, a2-highgpu-2g, "),
        ("g2-standard-6", "NVIDIA_L4", "g2-standard-4, g2-standard-8, "),
    ],
)
def test_machine_of_a_size_that_its_kind_lacks_is_an_error_with_those_it_has(machine, accelerator, there_are):
    given = (*GPU, f"vertex.pretraining.machine_type={machine}", f"vertex.pretraining.accelerator={accelerator}")
    found = offline.check(config(*given), TABLE)
    assert stands(found, "vertex.pretraining.machine_type") == [Severity.ERROR]
    assert there_are in words(found, "vertex.pretraining.machine_type")


def test_where_a_machine_without_accelerators_is_nobody_knows_without_asking():
    alone = (*T4, "vertex.pretraining.accelerator=null", "vertex.pretraining.accelerator_count=0")
    found = vertex_preflight.inspect(config(*alone), ask=False)
    field = "vertex.pretraining.machine_type"
    assert stands(found, field) == [Severity.NOT_CHECKED, Severity.OK]
    assert "gcloud compute machine-types list --filter name=n1-standard-8" in words(found, field)
    assert stands(found, "beam.dataflow.machine_type") == [Severity.NOT_CHECKED, Severity.OK]
    assert stands(found, "vertex.registry.machine_type") == []
    for told in ((), T4, (*OLD_TPU, "vertex.pretraining.accelerator=TPU_V3")):
        assert stands(vertex_preflight.inspect(config(*told), ask=False), field) == [Severity.OK]


def test_gpu_of_a_node_is_checked():
    field = "vertex.nodes.classify.accelerator"
    assert gravest(of=field) is Severity.OK
    assert gravest("vertex.nodes.classify.accelerator_count=3", of=field) is Severity.ERROR
    assert gravest("vertex.region=us-south1", of=field) is Severity.ERROR


@pytest.mark.parametrize(("field", "most", "more"), [("cpu", 96, 97), ("memory_gb", 640, 641)])
def test_node_that_is_larger_than_any_machine_is_a_warning_with_the_largest(field, most, more):
    field = f"vertex.nodes.transform.{field}"
    assert stands(offline.check(config(f"{field}={most}"), TABLE), field) == []
    found = offline.check(config(f"{field}={more}"), TABLE)
    assert stands(found, field) == [Severity.WARNING]
    assert f"more than {most}" in words(found, field)


def test_workers_machine_and_subnetwork_are_checked():
    assert gravest(of="beam.dataflow.machine_type") is Severity.OK
    assert gravest("beam.dataflow.machine_type=z9-odd-4", of="beam.dataflow.machine_type") is Severity.WARNING
    there = "beam.dataflow.subnetwork=regions/europe-west4/subnetworks/s"
    assert gravest(there, of="beam.dataflow.subnetwork") is Severity.ERROR
    here = there.replace("europe-west4", "us-central1")
    assert stands(offline.check(config(here), TABLE), "beam.dataflow.subnetwork") == []
    assert stands(offline.check(config("beam.runner=local", there), TABLE), "beam.dataflow.subnetwork") == []


def test_accounts_are_listed_with_their_roles():
    found = list(offline.accounts(config("beam.dataflow.service_account=flow@p.iam.gserviceaccount.com")))
    listed = words(found, "roles of simclr-pipeline@my-project.iam.gserviceaccount.com")
    for role in ("aiplatform.user", "dataflow.developer", "storage.objectViewer", "storage.objectUser"):
        assert f"roles/{role}" in listed
    assert "roles/iam.serviceAccountUser on flow@p.iam.gserviceaccount.com" in listed
    assert "roles/dataflow.worker on project" in words(found, "roles of flow@p.iam.gserviceaccount.com")
    local = words(list(offline.accounts(config("beam.runner=local"))), found[0].subject)
    assert "roles/aiplatform.user" in local and "dataflow" not in local


def test_default_account_is_a_warning():
    assert gravest("vertex.service_account=null", of="vertex.service_account") is Severity.WARNING
    assert stands(offline.check(config(), TABLE), "vertex.service_account") == []


def preflight(*arguments):
    return CliRunner().invoke(cli.main, ["preflight", "--config", str(golden_job.EXAMPLE), *arguments])


def test_command_offline_looks_for_no_credentials(monkeypatch):
    def looked(*_, **__):
        raise AssertionError("credentials were looked for")

    monkeypatch.setattr(google.auth, "default", looked)
    done = preflight("--offline")
    assert done.exit_code == 0, done.output
    assert str(TABLE.date) in done.stdout and "not checked" in done.stdout


def test_command_ends_with_2_after_an_error_of_the_configuration():
    assert preflight("--offline", "--set", "data.test=photos/").exit_code == 2


def test_no_credentials_are_told_and_the_rest_is_checked(no_credentials):
    found = vertex_preflight.inspect(config())
    assert "gcloud auth application-default login" in words(found, "Google Cloud")
    assert stands(found, "Google Cloud") == [Severity.NOT_CHECKED]
    assert stands(found, "vertex.pretraining.machine_type") == [Severity.OK]
    assert not findings.has_errors(found)


def test_credentials_are_not_looked_for_at_import(monkeypatch):
    def looked(*_, **__):
        raise AssertionError("credentials were looked for")

    monkeypatch.setattr(google.auth, "default", looked)
    for module in (vertex_preflight, online, rest):
        runpy.run_path(module.__file__)


def test_table_shows_the_grave_first_and_values_as_they_are():
    found = [findings.ok("a", "fine"), findings.error("data.test", "gs://b/[ab]*.png: [bold]none[/bold]")]
    drawn = findings.table(found)
    assert [str(cell) for cell in drawn.columns[1].cells] == ["data.test", "a"]
    shown = io.StringIO()
    Console(file=shown, width=120).print(drawn)
    assert "gs://b/[ab]*.png: [bold]none[/bold]" in shown.getvalue()
