"""Configurations that preflight's tests look at, and what is read from its findings."""

import golden_job

from pipeline.config import load_config
from pipeline.runners.vertex_preflight import catalog, offline
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
