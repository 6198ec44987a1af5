"""The CustomJob that Pretrain's node starts: the machines of each pool, as Vertex AI's own client takes them."""

import copy
import json

import pytest
from google.cloud.aiplatform_v1.types import CustomJob, Scheduling
from tfx.extensions.google_cloud_ai_platform import training_clients

from pipeline.config import load_config
from pipeline.runners.custom_job import custom_job

POOL = "vertex.pretraining"
BASE = ("vertex.project=my-project", "vertex.image=registry/simclr:v1", "vertex.region=europe-west4")
V3 = (
    f"{POOL}.machine_type=cloud-tpu",
    f"{POOL}.accelerator=TPU_V3",
    f"{POOL}.accelerator_count=8",
    "pretrain.compute.strategy=tpu",
)
V5E = (
    f"{POOL}.machine_type=ct5lp-hightpu-4t",
    f"{POOL}.tpu_topology=2x2",
    "pretrain.compute.strategy=tpu",
)
T4 = (f"{POOL}.machine_type=n1-standard-8", f"{POOL}.accelerator=NVIDIA_TESLA_T4", f"{POOL}.accelerator_count=1")


@pytest.fixture
def job_of(monkeypatch):
    """The job as the stock Vertex Trainer would send it, from settings: through JSON, as they travel to its node."""
    monkeypatch.setattr(training_clients.VertexJobClient, "create_client", lambda self: None)
    client = training_clients.VertexJobClient("europe-west4")

    def make(*overrides: str) -> CustomJob:
        vertex = load_config(None, [*BASE, *overrides]).vertex
        arguments = json.loads(
            json.dumps(custom_job(vertex, environment={"TF_USE_LEGACY_KERAS": "1"}, display_name="name"))
        )
        assert arguments.pop("project") == "my-project"
        made = client.create_training_job({}, {}, {}, "some.Executor", copy.deepcopy(arguments), None, {})
        return CustomJob(made)

    return make


@pytest.mark.parametrize(
    ("overrides", "machine"),
    [
        (V3, ("cloud-tpu", "TPU_V3", 8, "")),
        (V5E, ("ct5lp-hightpu-4t", "ACCELERATOR_TYPE_UNSPECIFIED", 0, "2x2")),
        (T4, ("n1-standard-8", "NVIDIA_TESLA_T4", 1, "")),
        ((f"{POOL}.machine_type=n1-highmem-8",), ("n1-highmem-8", "ACCELERATOR_TYPE_UNSPECIFIED", 0, "")),
    ],
)
def test_one_machine_is_one_pool_of_it(job_of, overrides, machine):
    [pool] = job_of(*overrides).job_spec.worker_pool_specs
    spec = pool.machine_spec
    assert (spec.machine_type, spec.accelerator_type.name, spec.accelerator_count, spec.tpu_topology) == machine
    assert pool.replica_count == 1
    assert pool.container_spec.image_uri == "registry/simclr:v1"
    assert {variable.name: variable.value for variable in pool.container_spec.env} == {"TF_USE_LEGACY_KERAS": "1"}
    assert list(pool.container_spec.command[:3]) == ["python", "-m", "tfx.scripts.run_executor"]


def test_several_machines_are_a_chief_and_a_pool_of_the_others(job_of):
    job = job_of(*T4, f"{POOL}.machines=4", "pretrain.compute.strategy=multi_worker")
    chief, others = job.job_spec.worker_pool_specs
    assert (chief.replica_count, others.replica_count) == (1, 3)
    assert chief.machine_spec == others.machine_spec
    assert chief.container_spec == others.container_spec
    assert job.job_spec.scheduling.restart_job_on_worker_restart


def test_spot_machines_begin_again_where_they_are_taken_away(job_of):
    spot = job_of(*V5E, f"{POOL}.spot=true", f"{POOL}.timeout_h=1.5").job_spec.scheduling
    assert (spot.strategy, spot.restart_job_on_worker_restart) == (Scheduling.Strategy.SPOT, True)
    assert spot.timeout.total_seconds() == 5400
    own = job_of(*V5E).job_spec.scheduling
    assert (own.strategy, own.restart_job_on_worker_restart) == (Scheduling.Strategy.STRATEGY_UNSPECIFIED, False)


def test_image_account_network_key_labels_and_disk_are_the_configured_ones(job_of):
    key = "projects/my-project/locations/europe-west4/keyRings/r/cryptoKeys/k"
    job = job_of(
        *V5E,
        f"{POOL}.image=registry/tpu:v1",
        f"{POOL}.boot_disk_gb=200",
        "vertex.service_account=runner@my-project.iam.gserviceaccount.com",
        "vertex.network=projects/12/global/networks/private",
        f"vertex.kms_key={key}",
        "vertex.labels.team=vision",
    )
    [pool] = job.job_spec.worker_pool_specs
    assert (pool.container_spec.image_uri, pool.disk_spec.boot_disk_size_gb) == ("registry/tpu:v1", 200)
    assert job.job_spec.service_account == "runner@my-project.iam.gserviceaccount.com"
    assert job.job_spec.network == "projects/12/global/networks/private"
    assert job.encryption_spec.kms_key_name == key
    assert job.labels["team"] == "vision"
