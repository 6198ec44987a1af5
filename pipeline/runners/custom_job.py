"""Pretrain and Distill on machines of their own: nodes that start a CustomJob by TFX's Vertex Trainer."""

from collections.abc import Callable, Mapping
from typing import Any

from tfx.components import Trainer

from components.distill.component import Distill
from pipeline.cloud import VertexConfig

_SECONDS_AN_HOUR = 3600


def vertex_pretrainer(vertex: VertexConfig, *, environment: Mapping[str, str]) -> Callable[..., Trainer]:
    """Makes Pretrain as TFX's Vertex Trainer: its node starts the CustomJob, waits for it, and fails with it.

    Args:
        vertex: with `project` and `pretraining.machine_type`.
        environment: variables of the workers.
    """
    # It brings the SDK of Vertex AI, which takes seconds to import.
    from tfx.extensions.google_cloud_ai_platform.trainer import component

    on_vertex = _on_vertex(vertex, environment, display_name="simclr-pretrain")

    def make(*, custom_config: Mapping[str, Any], **arguments: Any) -> Trainer:
        return component.Trainer(custom_config={**custom_config, **on_vertex}, **arguments)

    return make


def vertex_distiller(vertex: VertexConfig, *, environment: Mapping[str, str]) -> Callable[..., Distill]:
    """Makes the nodes that distil, each of which starts a CustomJob on as many machines as Pretrain's.

    Args:
        vertex: with `project` and `pretraining.machine_type`.
        environment: variables of the workers.
    """
    from components.distill.on_vertex import VertexDistill

    on_vertex = _on_vertex(vertex, environment, display_name="simclr-distill")

    def make(*, custom_config: Mapping[str, Any], **arguments: Any) -> Distill:
        return VertexDistill(custom_config={**custom_config, **on_vertex}, **arguments)

    return make


def _on_vertex(vertex: VertexConfig, environment: Mapping[str, str], *, display_name: str) -> dict[str, Any]:
    """What TFX's Vertex Trainer looks for in `custom_config`."""
    from tfx.extensions.google_cloud_ai_platform import constants
    from tfx.extensions.google_cloud_ai_platform.trainer import executor

    return {
        constants.ENABLE_VERTEX_KEY: True,
        constants.VERTEX_REGION_KEY: vertex.region,
        executor.TRAINING_ARGS_KEY: custom_job(vertex, environment=environment, display_name=display_name),
    }


def custom_job(vertex: VertexConfig, *, environment: Mapping[str, str], display_name: str) -> dict[str, Any]:
    """A CustomJob as the Vertex Trainer takes it, in JSON values; it fills in the workers' command.

    Args:
        vertex: with `project` and `pretraining.machine_type`.
        environment: variables of the workers.
        display_name: of the job.
    """
    pretraining = vertex.pretraining
    scheduling: dict[str, Any] = {"timeout": {"seconds": round(pretraining.timeout_h * _SECONDS_AN_HOUR)}}
    if pretraining.spot:
        scheduling["strategy"] = "SPOT"
    if pretraining.spot or pretraining.machines > 1:
        # Workers that exchange gradients cannot go on without one of them: all begin at the checkpoint.
        scheduling["restart_job_on_worker_restart"] = True
    spec = {"worker_pool_specs": _pools(vertex, environment), "scheduling": scheduling}
    spec |= {"service_account": vertex.service_account} if vertex.service_account else {}
    spec |= {"network": vertex.network} if vertex.network else {}
    job = {"project": vertex.project, "display_name": display_name, "labels": vertex.labels, "job_spec": spec}
    return job | ({"encryption_spec": {"kms_key_name": vertex.kms_key}} if vertex.kms_key else {})


def _pools(vertex: VertexConfig, environment: Mapping[str, str]) -> list[dict[str, Any]]:
    """The first pool is one machine, the chief; Vertex AI wants all others in the second."""
    machines = vertex.pretraining.machines
    return [_pool(vertex, environment, count) for count in (1, machines - 1) if count]


def _pool(vertex: VertexConfig, environment: Mapping[str, str], count: int) -> dict[str, Any]:
    pretraining = vertex.pretraining
    machine: dict[str, Any] = {"machine_type": pretraining.machine_type}
    if pretraining.accelerator:
        machine |= {
            "accelerator_type": pretraining.accelerator,
            "accelerator_count": pretraining.accelerator_count,
        }
    if pretraining.tpu_topology:
        machine["tpu_topology"] = pretraining.tpu_topology
    return {
        "machine_spec": machine,
        "replica_count": count,
        "disk_spec": {"boot_disk_type": "pd-ssd", "boot_disk_size_gb": pretraining.boot_disk_gb},
        "container_spec": {
            "image_uri": pretraining.image or vertex.image,
            "env": [{"name": name, "value": value} for name, value in sorted(environment.items())],
        },
    }
