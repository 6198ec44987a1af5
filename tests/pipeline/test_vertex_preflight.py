"""Preflight without a network: what a configuration alone tells, what it needs, what it costs."""

import io
import json
import runpy
from collections import Counter

import golden_job
import google.auth
import pytest
from click.testing import CliRunner
from rich.console import Console

from pipeline import cli
from pipeline.config import load_config
from pipeline.pipeline import Locations, create_pipeline
from pipeline.runners import kubeflow, vertex_preflight
from pipeline.runners.vertex_preflight import catalog, cost, findings, needs, offline, online, rest
from pipeline.runners.vertex_preflight.findings import Severity

TABLE = catalog.read()
DISTIL = ("distill.enabled=true", "distill.compute.strategy=tpu")
GPU = (
    "vertex.pretraining.tpu_topology=null",
    "pretrain.compute.strategy=one_device",
    "vertex.pretraining.accelerator_count=1",
)
T4 = (*GPU, "vertex.pretraining.machine_type=n1-standard-8", "vertex.pretraining.accelerator=NVIDIA_TESLA_T4")
OLD_TPU = (
    "vertex.pretraining.tpu_topology=null",
    "vertex.pretraining.machine_type=cloud-tpu",
    "vertex.pretraining.accelerator_count=8",
)
IN_ITS_NODE = (
    "vertex.pretraining.machine_type=null",
    "vertex.pretraining.tpu_topology=null",
    "pretrain.compute.strategy=one_device",
)
BY_DIGEST = f"us-central1-docker.pkg.dev/my-project/simclr/pipeline@sha256:{'0' * 64}"


def config(*overrides):
    return load_config(str(golden_job.EXAMPLE), overrides)


def stands(found, subject):
    """The severities of what was found about a subject, the gravest first."""
    order = list(Severity)
    return sorted({item.severity for item in found if item.subject == subject}, key=order.index)


def words(found, subject):
    return "\n".join(item.words for item in found if item.subject == subject)


def gravest(*overrides, of):
    return stands(offline.check(config(*overrides), TABLE), of)[0]


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


def test_nodes_are_those_of_the_compiled_pipeline():
    job = json.loads(golden_job.GOLDEN.read_text())
    names = [name for name, _ in kubeflow.tasks(job["pipelineSpec"])]
    kinds = Counter(kubeflow._KINDS[name.partition("-")[0]] for name in names)
    assert needs.nodes(config(*golden_job.OVERRIDES)) == kinds


def test_dataflow_jobs_are_those_of_the_compiled_pipeline():
    job = json.loads(golden_job.GOLDEN.read_text())
    executors = job["pipelineSpec"]["deploymentSpec"]["executors"]
    hiring = [
        name for name, one in executors.items() if "--runner=DataflowRunner" in one["container"].get("args", [])
    ]
    kinds = Counter(kubeflow._kind(name.removesuffix("_executor")) for name in hiring)
    kinds["transform"] += 1  # LabelFractionSplit's second
    assert kinds == needs.DATAFLOW_JOBS


def at_once(*overrides):
    """Every set of nodes that may run at one time, as far as what they wait for tells."""
    locations = Locations(artifacts="a", checkpoints="c", pushed="p")
    nodes = {node.id: node for node in create_pipeline(config(*overrides), locations).components}
    before: dict[str, set[str]] = {}
    for name, node in nodes.items():  # each after those that it waits for
        direct = {upstream.id for upstream in node.upstream_nodes}
        before[name] = direct.union(*(before[upstream] for upstream in direct))

    def beside(chosen, rest):
        yield chosen
        for number, name in enumerate(rest):
            others = [
                other for other in rest[number + 1 :] if name not in before[other] and other not in before[name]
            ]
            yield from beside([*chosen, name], others)

    return list(beside([], list(nodes)))


def largest(counters):
    found = {frozenset(one.items()): one for one in counters}.values()
    return [one for one in found if not any(one < other for other in found)]


@pytest.mark.parametrize(
    "overrides",
    [
        ("fractions=[0.1]",),
        ("fractions=[0.1,0.5]", "retrain.store=gs://my-bucket/spans"),
        ("fractions=[0.1]", *DISTIL),
        ("fractions=[0.1,0.5]", *DISTIL, "retrain.store=gs://my-bucket/spans"),
    ],
)
def test_no_more_of_the_graph_can_run_at_once_than_a_phase_says(overrides):
    sets, phases = at_once(*overrides), needs.phases(config(*overrides))
    found = largest(Counter(map(kubeflow._kind, names)) for names in sets)
    assert [one for one in found if not any(one <= phase for phase in phases)] == []
    if "distill.enabled=true" not in overrides:  # then none of them is larger than the graph, either
        assert {frozenset(one.items()) for one in largest(+phase for phase in phases)} == {
            frozenset(one.items()) for one in found
        }
    on_dataflow = max(sum(name.startswith(kubeflow._ON_DATAFLOW) for name in names) for names in sets)
    assert on_dataflow == needs.DATAFLOW_JOBS_AT_ONCE


def quota(*overrides):
    return {item.metric: (item.least, item.peak) for item in needs.quotas(config(*overrides), TABLE)}


def test_quotas_of_the_example_by_hand():
    assert quota("fractions=[0.1,0.5]") == {
        # After pretraining, four nodes on 8 vCPUs and one on 4.
        "custom_model_training_cpus": (8, 4 * 8 + 4),
        "custom_model_training_nvidia_t4_gpus": (1, 4),
        "custom_model_training_preemptible_tpu_v5e": (4, 4),
        "cpus": (4, 4 * 20 * 3),  # three jobs of Dataflow
    }


def test_quotas_of_distillation_by_hand():
    assert quota(*DISTIL, "fractions=[0.1,0.5]") == {
        # After pretraining, four nodes on 8 vCPUs and one on 4, and on 4 the two that distil.
        "custom_model_training_cpus": (8, 4 * 8 + 4 + 2 * 4),
        "custom_model_training_nvidia_t4_gpus": (1, 4),
        "custom_model_training_preemptible_tpu_v5e": (4, 2 * 4),
        "cpus": (4, 4 * 20 * 3),
    }


def test_quotas_of_large_nodes_of_each_kind_are_of_all_that_run_at_once():
    for kind, count in {"check": 3, "transform": 2, "publish": 1}.items():
        peak = quota(*IN_ITS_NODE, "beam.runner=local", f"vertex.nodes.{kind}.cpu=90", "fractions=[0.1]")
        assert peak["custom_model_training_cpus"][1] // 90 == count, kind


def test_quotas_of_several_machines_with_gpus_by_hand():
    hired = quota(
        *T4, "vertex.pretraining.spot=false", "vertex.pretraining.machines=3", "fractions=[0.1]", "beam.runner=local",
        "pretrain.batch_size=999",
        "pretrain.compute.strategy=multi_worker", "vertex.nodes.classify.accelerator=null",
        "vertex.nodes.classify.accelerator_count=0",
    )  # fmt: skip
    # During pretraining: its node on 4, its machines on 24, one Supervised on 8.
    assert hired == {
        "custom_model_training_cpus": (24, 36),
        "custom_model_training_nvidia_t4_gpus": (3, 3),
    }


def test_quota_of_old_tpus_counts_cores():
    assert quota(*OLD_TPU, "vertex.pretraining.accelerator=TPU_V3", "vertex.pretraining.spot=false")[
        "custom_model_training_tpu_v3"
    ] == (8, 8)


def dollars(*overrides):
    [found] = cost.estimate(config(*overrides), TABLE)
    low, high = found.words.split(" for one run")[0].replace("$", "").replace(",", "").split(" to ")
    return float(low), float(high)


def test_cost_of_pretraining_by_hand():
    alone = ("beam.runner=local", "vertex.pretraining.spot=false")
    one, two = dollars(*alone), dollars(*alone, "vertex.pretraining.timeout_h=48")
    # A v5e host of four chips, its 100 GB SSD, and the node that waits: 4 vCPUs and 16 GB.
    hour = 1.15 * (4.8 + 100 * 0.17 / 730 + 4 * 0.021811 + 16 * 0.002923)
    assert two[1] - one[1] == pytest.approx(24 * hour, abs=0.02)
    assert two[0] - one[0] == pytest.approx(2.4 * hour, abs=0.02)


def test_cost_of_each_distillation_is_that_of_a_pretraining():
    alone = ("beam.runner=local", "vertex.pretraining.spot=false", "fractions=[0.1,0.5]")
    hour = 1.15 * (4.8 + 100 * 0.17 / 730 + 4 * 0.021811 + 16 * 0.002923)
    assert dollars(*alone, *DISTIL)[1] - dollars(*alone)[1] == pytest.approx(2 * 24 * hour, abs=0.02)
    [found] = cost.estimate(config(*alone, *DISTIL), TABLE)
    assert "Pretrain's and Distill's machines" in found.words


def test_cost_tells_the_date_what_it_assumes_and_that_prices_differ_elsewhere():
    [here] = cost.estimate(config(), TABLE)
    assert f"table of {TABLE.date}" in here.words and "pretrain 2.4 h to timeout_h, 24 h" in here.words
    [there] = cost.estimate(config("vertex.region=europe-west4"), TABLE)
    assert "1.45 times the prices of us-central1" in there.words
    assert dollars("vertex.region=europe-west4")[1] > 1.4 * dollars()[1]


def test_spot_dataflow_and_gpus_change_the_cost():
    assert dollars()[1] < dollars("vertex.pretraining.spot=false")[1]
    assert dollars()[1] > dollars("beam.runner=local")[1]
    classify = ("vertex.nodes.classify.accelerator=null", "vertex.nodes.classify.accelerator_count=0")
    assert dollars()[1] > dollars(*classify)[1]
    assert dollars(*T4)[1] < dollars(*T4, "vertex.pretraining.spot=false")[1]


def test_cost_says_where_spot_is_counted_at_the_full_price():
    a100 = (*GPU, "vertex.pretraining.machine_type=a2-highgpu-1g", "vertex.pretraining.accelerator=NVIDIA_TESLA_A100")
    [found] = cost.estimate(config(*a100), TABLE)
    assert "NVIDIA_TESLA_A100 at the full price, for want of that of spot" in found.words
    for known in ((*a100, "vertex.pretraining.spot=false"), T4, ()):
        assert "full price" not in cost.estimate(config(*known), TABLE)[0].words


def test_endpoint_is_priced_by_the_hour_and_its_machine_looked_up():
    served = ("vertex.registry.endpoint=photos", "vertex.registry.min_replicas=3", "vertex.registry.max_replicas=3")
    n1 = TABLE.families["n1"]
    hour = 3 * (4 * n1.vcpu_usd + 15 * n1.gb_usd) * TABLE.prices.training_factor
    found = cost.estimate(config(*served, "vertex.registry.machine_type=n1-standard-4"), TABLE)
    assert f"the endpoint photos: ${hour:.2f} an hour" in found[-1].words
    unknown = (*served, "vertex.registry.machine_type=x9-standard-4")
    assert cost.estimate(config(*unknown), TABLE)[-1].severity is Severity.NOT_CHECKED
    assert gravest(*unknown, of="vertex.registry.machine_type") is Severity.WARNING
    assert gravest(*served, of="vertex.registry.machine_type") is Severity.OK
    assert "endpoint" not in words(cost.estimate(config(), TABLE), cost.COST)


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
