"""Compiles the one pipeline for Vertex AI (a PipelineJob as JSON) and for open-source Kubeflow (YAML, spec 2.1).

KubeflowV2DagRunner makes both; what it drops is put in afterwards: resources, retries, caching by node, labels.
"""

import errno
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import duration_pb2, json_format
from kfp.pipeline_spec import pipeline_spec_pb2
from tfx.components import Trainer
from tfx.dsl.components.base.base_beam_component import BaseBeamComponent
from tfx.dsl.components.base.base_node import BaseNode
from tfx.orchestration.kubeflow.decorators import FinalStatusStr
from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import KubeflowV2DagRunner, KubeflowV2DagRunnerConfig

from components.distill.component import Distill
from components.run_summary.component import RunSummary
from pipeline.cloud import NodeConfig
from pipeline.config import PipelineConfig
from pipeline.pipeline import Locations, create_pipeline
from pipeline.runners.beam_processes import beam_pipeline_args
from pipeline.runners.custom_job import vertex_distiller, vertex_pretrainer
from pipeline.runners.dataflow import dataflow_args
from pipeline.runners.registrar import vertex_registrar
from pipeline.runners.rehearsal.specification import RefusedError, read_job
from pipeline.runners.rehearsal.validation import validate
from trainer.config import ConfigError, dump

JOB_FILE, YAML_FILE = "pipeline.json", "pipeline.yaml"
# Below the pipeline root; a runner that keeps a record of its nodes puts it there, for the report.
RUN_RECORD = "nodes.json"
# TFT and TFMA read Keras 2; which Keras `tf_keras` and TensorFlow mean is settled before any of them is imported.
_ENVIRONMENT = {"TF_USE_LEGACY_KERAS": "1"}
# The field of `vertex.nodes` by the name of a node up to its hyphen.
_KINDS = {
    "ImageExampleGen": "ingest",
    "SpanIngest": "ingest",
    "StatisticsGen": "check",
    "SchemaGen": "check",
    "ExampleValidator": "check",
    "AnomalyGate": "check",
    "LeakageGate": "check",
    "Transform": "transform",
    "LabelFractionSplit": "transform",
    "Pretrain": "pretrain",
    "Distill": "pretrain",
    "FineTune": "classify",
    "Supervised": "classify",
    "LinearEval": "evaluate",
    "Evaluator": "evaluate",
    "Drift": "evaluate",
    "Push": "publish",
    "Report": "publish",
    "SpanTrained": "publish",
    "VertexPusher": "publish",
    "RunSummary": "publish",
}
_ON_DATAFLOW = ("ImageExampleGen", "SpanIngest", "StatisticsGen", "Transform", "LabelFractionSplit", "LeakageGate")
# What a node looks at that is no artifact, by the name of its fingerprint.
_LOOKS_AT = {
    "ImageExampleGen-unlabeled": "unlabeled",
    "ImageExampleGen-labeled": "labeled",
    # Of these a compilation is told nothing: when the compiled job runs, other files are there.
    "SpanIngest": "the source as it is then",
    "SpanTrained": "the store as it is then",
    "Drift": "pushed",
    "Push": "pushed",
    "VertexPusher": "registry",
}
_KUBERNETES_GPU = "nvidia.com/gpu"
_DEFAULT_IMAGE = "default_image_path"


@dataclass(frozen=True)
class Compiled:
    """What a compilation leaves.

    Attributes:
        job: the PipelineJob for Vertex AI, JSON.
        yaml: the pipeline for open-source Kubeflow.
    """

    job: Path
    yaml: Path


def compile_pipeline(
    config: PipelineConfig,
    directory: str | Path,
    *,
    fingerprints: Mapping[str, str] | None = None,
    allow_local_paths: bool = False,
) -> Compiled:
    """Writes both forms of the pipeline; the same bytes for the same configuration and code.

    Args:
        config: with `vertex.project`, `vertex.pipeline_root` and `vertex.image`.
        directory: of the two files; made if need be.
        fingerprints: of the sources and of the folder `pushed`, see `create_pipeline`. A node that looks at one
            without a fingerprint is never answered from the cache, since nothing would tell of a change.
        allow_local_paths: for a rehearsal on this machine: sources and the pipeline root may be local.

    Raises:
        ConfigError: a field is missing, a path is local, no machine is there for the strategy of a training, or
            what is compiled would not run on Vertex AI.
    """
    _check(config, allow_local_paths=allow_local_paths)
    fingerprints = fingerprints or {}
    vertex = config.vertex
    pretrainer, distiller = Trainer, Distill
    if vertex.pretraining.machine_type is not None:
        pretrainer = vertex_pretrainer(vertex, environment=_ENVIRONMENT)
        distiller = vertex_distiller(vertex, environment=_ENVIRONMENT)
    registrar = vertex_registrar(vertex.target) if vertex.target else None
    job = _compile(config, fingerprints, pretrainer, distiller, registrar, gpu_name=None)
    job["labels"] |= vertex.labels
    job |= {"encryptionSpec": {"kmsKeyName": vertex.kms_key}} if vertex.kms_key else {}
    job |= {"serviceAccount": vertex.service_account} if vertex.service_account else {}
    job |= {"network": vertex.network} if vertex.network else {}
    try:
        validate(read_job(job))
    except RefusedError as error:
        raise ConfigError(f"the compiled pipeline would not run: {error}") from error
    kubeflow = _compile(_in_its_node(config), fingerprints, Trainer, Distill, None, gpu_name=_KUBERNETES_GPU)[
        "pipelineSpec"
    ]
    kubeflow["defaultPipelineRoot"] = vertex.pipeline_root

    return _written(Path(directory), job, kubeflow)


def _written(directory: Path, job: Mapping[str, Any], kubeflow: Mapping[str, Any]) -> Compiled:
    compiled = Compiled(directory / JOB_FILE, directory / YAML_FILE)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        compiled.job.write_text(json.dumps(job, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        compiled.yaml.write_text(yaml.safe_dump(kubeflow, sort_keys=True), encoding="utf-8")
    except OSError as error:
        if error.errno == errno.ENOSPC:  # no fault of the setting
            raise
        raise ConfigError(f"output = {str(directory)!r}: cannot be written: {error.strerror}") from error
    return compiled


def _check(config: PipelineConfig, *, allow_local_paths: bool) -> None:
    vertex = config.vertex
    for name in ("project", "pipeline_root", "image"):
        if getattr(vertex, name) is None:
            raise ConfigError(f"vertex.{name} = null: must be given to compile; see infra/vertex.example.yaml")
    paths = {"vertex.pipeline_root": vertex.pipeline_root, "retrain.store": config.retrain.store} | {
        f"data.{name}": getattr(config.data, name)
        for name in ("unlabeled", "labeled", "test", "labeled_manifest", "test_manifest")
    }
    for field, path in paths.items():
        if path and not path.startswith("gs://") and not allow_local_paths:
            raise ConfigError(f"{field} = {path!r}: must be on gs://, no machine in the cloud sees this disk")
        if path and re.match("gs://(/|$)", path):
            raise ConfigError(f"{field} = {path!r}: names no bucket; give gs://BUCKET/FOLDER")
    for name, training in config.on_pretraining_machines.items():
        strategy = training.compute.strategy
        if vertex.pretraining.machine_type is None and strategy in ("tpu", "multi_worker"):
            raise ConfigError(
                f"{name}.compute.strategy = {strategy}: needs machines of its own; give "
                "vertex.pretraining.machine_type"
            )


def _in_its_node(config: PipelineConfig) -> PipelineConfig:
    """The configuration where there is no CustomJob: a node trains in itself, on the GPUs that it has."""
    strategy = "mirrored" if config.vertex.nodes.pretrain.accelerator_count > 1 else "one_device"
    trainings = {
        name: training.model_copy(update={"compute": training.compute.model_copy(update={"strategy": strategy})})
        for name, training in config.on_pretraining_machines.items()
    }
    return config.model_copy(update=trainings)


def _compile(
    config: PipelineConfig,
    fingerprints: Mapping[str, str],
    pretrainer: Callable[..., Trainer],
    distiller: Callable[..., Distill],
    registrar: Callable[..., BaseNode] | None,
    *,
    gpu_name: str | None,
) -> dict[str, Any]:
    """A PipelineJob in JSON values; `gpu_name` is how all GPUs are called, None: by Vertex AI's names."""
    root = config.vertex.pipeline_root.rstrip("/")
    pipeline = create_pipeline(
        config,
        Locations(
            artifacts=root,
            checkpoints=f"{root}/checkpoints",
            pushed=f"{root}/pushed",
            run_record=f"{root}/{RUN_RECORD}",
        ),
        fingerprints=fingerprints,
        pretrainer=pretrainer,
        distiller=distiller,
        registrar=registrar,
    )
    for node in pipeline.components:
        if isinstance(node, BaseBeamComponent):
            node.with_beam_pipeline_args(_beam_args(config, node.id))
    names = [node.id for node in pipeline.components] + [RunSummary.__name__]
    images = {name: _node(config, name).image or config.vertex.image for name in names}
    runner = KubeflowV2DagRunner(
        KubeflowV2DagRunnerConfig(
            default_image={**images, _DEFAULT_IMAGE: config.vertex.image}, use_pipeline_spec_2_1=True
        )
    )
    runner.set_exit_handler(
        RunSummary(
            final_status=FinalStatusStr(),
            destination=f"{root}/summaries",
            runs=root,
            region=config.vertex.region,
            configuration=dump(config),
        )
    )
    job = runner.run(pipeline, write_out=False)
    for name, task in tasks(job["pipelineSpec"]):
        node = _node(config, name)
        # A node that dies leaves its CustomJob running, and TFX would start a second beside it, which writes the same
        # checkpoints. After an internal error Vertex AI starts the workers anew by itself: `disable_retries` of its
        # API's Scheduling message says so, and is left at false.
        hires = _kind(name) == "pretrain" and pretrainer is not Trainer
        task |= {} if hires else _retries(config, node)
        if not node.cache or _LOOKS_AT.get(name, "") not in {"", *fingerprints}:
            task.pop("cachingOptions", None)
    for label, executor in job["pipelineSpec"]["deploymentSpec"]["executors"].items():
        container = executor["container"]
        container["resources"] = _resources(_node(config, label.removesuffix("_executor")), gpu_name)
        container["env"] = [{"name": name, "value": value} for name, value in sorted(_ENVIRONMENT.items())]
    return job


def tasks(spec: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The tasks that run a node. Beside an exit handler all others stand in a graph of their own."""
    graphs = [spec["root"]["dag"]] + [part["dag"] for part in spec["components"].values() if "dag" in part]
    for graph in graphs:
        for name, task in graph["tasks"].items():
            if "dag" not in spec["components"][task["componentRef"]["name"]]:
                yield name, task


def _beam_args(config: PipelineConfig, name: str) -> list[str]:
    hires = config.beam.runner == "dataflow" and name.startswith(_ON_DATAFLOW)
    return dataflow_args(config) if hires else beam_pipeline_args(config.beam.workers)


def _node(config: PipelineConfig, name: str) -> NodeConfig:
    return getattr(config.vertex.nodes, _kind(name))


def _kind(name: str) -> str:
    return _KINDS[name.partition("-")[0]]


def _retries(config: PipelineConfig, node: NodeConfig) -> dict[str, Any]:
    if node.retries == 0:
        return {}
    retry = config.vertex.retry
    policy = pipeline_spec_pb2.PipelineTaskSpec.RetryPolicy(
        max_retry_count=node.retries,
        backoff_duration=duration_pb2.Duration(seconds=retry.backoff_s),
        backoff_factor=retry.factor,
        backoff_max_duration=duration_pb2.Duration(seconds=retry.max_backoff_s),
    )
    return {"retryPolicy": json_format.MessageToDict(policy)}


def _resources(node: NodeConfig, gpu_name: str | None) -> dict[str, Any]:
    resources = pipeline_spec_pb2.PipelineDeploymentConfig.PipelineContainerSpec.ResourceSpec(
        cpu_limit=node.cpu, memory_limit=node.memory_gb
    )
    if node.accelerator:
        resources.accelerator.type = gpu_name or node.accelerator
        resources.accelerator.count = node.accelerator_count
    return json_format.MessageToDict(resources)
