"""Machines, names and paths of the cloud that cannot be: refused with field, value and remedy."""

import pytest

from pipeline.config import load_config
from trainer.config import ConfigError

_POOL = "vertex.pretraining"
V5E = (f"{_POOL}.machine_type=ct5lp-hightpu-4t", f"{_POOL}.tpu_topology=2x2")
V3 = (f"{_POOL}.machine_type=cloud-tpu", f"{_POOL}.accelerator=TPU_V3", f"{_POOL}.accelerator_count=8")
T4 = (f"{_POOL}.machine_type=n1-standard-8", f"{_POOL}.accelerator=NVIDIA_TESLA_T4", f"{_POOL}.accelerator_count=1")


def refused(*overrides: str) -> str:
    with pytest.raises(ConfigError) as error:
        load_config(None, overrides)
    return str(error.value)


@pytest.mark.parametrize(
    ("overrides", "strategy"),
    [
        (V5E, "tpu"),
        (V3, "tpu"),
        ((*V3, f"{_POOL}.accelerator=TPU_V2"), "tpu"),
        ((f"{_POOL}.machine_type=ct5lp-hightpu-1t", f"{_POOL}.tpu_topology=1x1"), "tpu"),
        ((f"{_POOL}.machine_type=ct5lp-hightpu-8t", f"{_POOL}.tpu_topology=2x4"), "tpu"),
        (T4, "one_device"),
        ((f"{_POOL}.machine_type=n1-standard-8",), "one_device"),
        ((*T4, f"{_POOL}.accelerator_count=4"), "mirrored"),
        ((*T4, f"{_POOL}.machines=4"), "multi_worker"),
    ],
)
def test_strategy_that_uses_the_machines_passes_and_another_is_refused(overrides, strategy):
    load_config(None, [*overrides, f"pretrain.compute.strategy={strategy}"])
    other = "mirrored" if strategy == "one_device" else "one_device"
    message = refused(*overrides, f"pretrain.compute.strategy={other}")
    assert message.startswith(f"pretrain.compute.strategy = {other}: ")
    assert f"which {strategy} uses" in message


_TPU, _SEVERAL = "pretrain.compute.strategy=tpu", "pretrain.compute.strategy=multi_worker"


@pytest.mark.parametrize(
    ("overrides", "replicas"),
    [
        ((*V5E, _TPU), 4),
        ((f"{_POOL}.machine_type=ct5lp-hightpu-8t", f"{_POOL}.tpu_topology=2x4", _TPU), 8),
        ((*V3, _TPU), 8),
        ((*T4, f"{_POOL}.accelerator_count=4", "pretrain.compute.strategy=mirrored"), 4),
        ((*T4, f"{_POOL}.accelerator_count=2", f"{_POOL}.machines=4", _SEVERAL), 8),
        ((f"{_POOL}.machine_type=n1-standard-8", f"{_POOL}.machines=3", _SEVERAL), 3),
    ],
)
def test_batch_that_the_replicas_do_not_divide_is_refused_before_it_would_fail_on_them(overrides, replicas):
    load_config(None, [*overrides, f"pretrain.batch_size={5 * replicas}"])
    message = refused(*overrides, f"pretrain.batch_size={5 * replicas + 1}")
    assert f"pretrain.batch_size = {5 * replicas + 1}" in message
    assert f"hires {replicas} replicas" in message and f"such as {5 * replicas}" in message


def test_batch_in_the_node_itself_is_not_held_against_machines_that_are_not_hired():
    load_config(None, ["pretrain.batch_size=7"])
    load_config(None, [f"{_POOL}.machine_type=n1-standard-8", "pretrain.batch_size=7"])


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([f"{_POOL}.machine_type=ct6e-standard-4t"], ["ct6e-standard-4t", "does not support", "ct5lp-hightpu-4t"]),
        ([f"{_POOL}.machine_type=tpu7x-standard-4t"], ["tpu7x", "does not support"]),
        ([f"{_POOL}.machine_type=ct5lp-hightpu-2t"], ["ct5lp-hightpu-2t", "one of"]),
        ([V5E[0]], ["tpu_topology None", "set it to 2x2"]),
        ([*V5E, f"{_POOL}.tpu_topology=4x4"], ["tpu_topology 4x4", "set it to 2x2"]),
        ([*V5E, f"{_POOL}.accelerator_count=4"], ["accelerator_count 4", "leave both out"]),
        ([*V5E, f"{_POOL}.machines=2"], ["machines 2", "set machines to 1"]),
        ([*V3, f"{_POOL}.accelerator_count=32"], ["accelerator_count 32", "TPU_V2 or TPU_V3, and 8"]),
        ([*V3, f"{_POOL}.accelerator=NVIDIA_L4"], ["NVIDIA_L4", "TPU_V2 or TPU_V3"]),
        ([*V3, f"{_POOL}.tpu_topology=2x2"], ["tpu_topology 2x2", "only v5e has one"]),
        ([*T4, f"{_POOL}.accelerator_count=0"], ["accelerator_count 0", "give both"]),
        ([*T4, f"{_POOL}.accelerator=NVIDIA_L4"], ["NVIDIA_L4", "n1-standard-8", "g2-"]),
        ([f"{_POOL}.accelerator=NVIDIA_L4", f"{_POOL}.accelerator_count=1"], ["machine_type None", "g2-"]),
        (["vertex.nodes.classify.accelerator=NVIDIA_L4"], ["vertex.nodes.classify", "NVIDIA_L4", "give both"]),
        (["vertex.nodes.classify.accelerator=TPU_V3"], ["vertex.nodes.classify.accelerator", "TPU_V3"]),
        (["vertex.nodes.transform.cpu=0"], ["vertex.nodes.transform.cpu", "0", "greater than 0"]),
        (["vertex.nodes.transform.retries=-1"], ["vertex.nodes.transform.retries", "-1"]),
        (["vertex.retry.max_backoff_s=30"], ["vertex.retry", "max_backoff_s 30", "raise"]),
        (["vertex.retry.max_backoff_s=3601"], ["vertex.retry.max_backoff_s = 3601", "equal to 3600"]),
        (["vertex.nodes.transform.retries=101"], ["vertex.nodes.transform.retries = 101", "equal to 100"]),
        ([f"{_POOL}.timeout_h=9000"], ["timeout_h = 9000", "equal to 8760"]),
        ([f"{_POOL}.boot_disk_gb=65537"], ["boot_disk_gb = 65537", "equal to 65536"]),
        (["beam.dataflow.disk_gb=65537"], ["disk_gb = 65537", "equal to 65536"]),
        ([f"{_POOL}.accelerator=TPU_V6E"], ["vertex.pretraining.accelerator = 'TPU_V6E': must be", "or 'TPU_V3'"]),
        ([f"{_POOL}.machine_type=ct5p-hightpu-4t"], ["ct5p-hightpu-4t: of TPUs only", "take ct5lp-hightpu-4t"]),
        ([f"{_POOL}.machine_type=v5litepod-4"], ["v5litepod-4: of TPUs only", "take ct5lp-hightpu-4t"]),
        (
            ["vertex.project=My Project"],
            ["vertex.project = 'My Project'", "6 to 30 lower-case", "such as my-project"],
        ),
        (["vertex.region=us-central1-a"], ["vertex.region = 'us-central1-a'", "such as us-central1, no zone"]),
        (["vertex.region=us"], ["vertex.region = 'us'", "no multi-region"]),
        (["vertex.service_account=me"], ["vertex.service_account = 'me'", "iam.gserviceaccount.com"]),
        (["vertex.network=default"], ["vertex.network = 'default'", "projects/NUMBER/global/networks/NAME"]),
        (["vertex.experiment=Photos"], ["vertex.experiment = 'Photos'", "at most 128 lower-case"]),
        (["vertex.labels.Team=vision"], ["vertex.labels", "Team", "lower-case"]),
        (["vertex.labels.team=Vision AI"], ["vertex.labels", "Vision AI"]),
        (
            ["vertex.kms_key=projects/p/locations/europe-west4/keyRings/r/cryptoKeys/k"],
            ["vertex", "europe-west4", "region us-central1"],
        ),
        (["vertex.kms_key=mine"], ["vertex.kms_key = 'mine'", "/keyRings/RING/cryptoKeys/KEY"]),
        (["beam.runner=flink"], ["beam.runner", "flink", "dataflow"]),
        (["beam.dataflow.temp_location=/tmp"], ["beam.dataflow.temp_location = '/tmp'", "gs://my-bucket"]),
        (["beam.dataflow.public_ips=false"], ["beam.dataflow", "subnetwork"]),
        (["beam.dataflow.subnetwork=mine"], ["beam.dataflow.subnetwork = 'mine'", "regions/REGION/subnetworks/NAME"]),
    ],
)
def test_impossible_setting_is_refused_with_value_and_remedy(overrides, words):
    message = refused(*overrides)
    assert all(word in message for word in words), message


def test_run_on_this_machine_without_a_cloud_section_is_what_it_was():
    config = load_config()
    assert (config.beam.runner, config.vertex.project, config.vertex.pretraining.machine_type) == (
        "local",
        None,
        None,
    )


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["vertex.registry.endpoint=photos"], "endpoint photos without a model"),
        (["vertex.registry.min_replicas=2"], "max_replicas 1 is below min_replicas 2"),
        (["vertex.registry.model=Photos"], "vertex.registry.model = 'Photos': must be at most 63 lower-case letters"),
        (
            ["vertex.registry.endpoint=-p", "vertex.registry.model=p"],
            "vertex.registry.endpoint = '-p': must be at most",
        ),
        (["vertex.registry.canary_percent=101"], "vertex.registry.canary_percent"),
    ],
)
def test_registry_that_cannot_be_is_refused(overrides, words):
    assert words in refused(*overrides)
