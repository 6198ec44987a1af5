"""The graph: which node feeds which. Nothing runs here, and nothing here knows where it will run."""

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import wrappers_pb2

# Its messages by their module: from TFMA 0.52 on, with TFX 1.21, the package itself no longer hands them on.
from tensorflow_model_analysis.proto import config_pb2 as tfma
from tfx.components import Evaluator, ExampleValidator, SchemaGen, StatisticsGen, Trainer, Transform
from tfx.dsl.components.base.base_node import BaseNode
from tfx.orchestration.pipeline import Pipeline

from components.anomaly_gate.component import AnomalyGate
from components.distill.component import Distill
from components.drift.component import Drift
from components.image_example_gen.component import ImageExampleGen
from components.label_fraction_split.component import LabelFractionSplit
from components.leakage_gate.component import LeakageGate
from components.linear_eval.component import LinearEval
from components.push.component import Push
from components.report.component import Report
from components.span_ingest.component import SpanIngest
from pipeline import ingestion, trainings
from pipeline.code_version import code_version
from pipeline.config import PipelineConfig
from pipeline.ingestion import LABELED, UNLABELED
from trainer.config import dump

NAME = "simclr"
_SPANS = "spans"
_PREPROCESSING = "components.transform.preprocessing"


@dataclass(frozen=True)
class Locations:
    """Where a run keeps what it makes; local paths or gs://.

    Attributes:
        artifacts: root of the artifacts.
        checkpoints: of trainings that may be killed; outlives their executions.
        pushed: versions of the served model.
        run_record: the local runner's JSON of nodes and times; empty where there is none.
    """

    artifacts: str
    checkpoints: str
    pushed: str
    run_record: str = ""


def create_pipeline(
    config: PipelineConfig,
    locations: Locations,
    *,
    fingerprints: Mapping[str, str] | None = None,
    beam_pipeline_args: Sequence[str] = (),
    pretrainer: Callable[..., Trainer] = Trainer,
    distiller: Callable[..., Distill] = Distill,
    registrar: Callable[..., BaseNode] | None = None,
    all_wait: bool = True,
    **runner_settings: Any,
) -> Pipeline:
    """From images to a pushed model and a report.

    With `retrain.store` the unlabeled images come through SpanIngest, and the rest runs only if that found enough new
    ones.

    Args:
        config: of the run.
        locations: of what it makes.
        fingerprints: of the sources `unlabeled` and `labeled`, so that changed images are read again, of `spans`,
            so that new images are looked for again, and of the folder `pushed`, so that a model is pushed again into
            a folder that was removed and made anew.
        beam_pipeline_args: of all Beam stages.
        pretrainer: makes Pretrain from the arguments of the stock Trainer, which trains in its own node.
        distiller: makes the nodes that distil from the arguments of Distill, which trains in its own node.
        registrar: makes the node that registers what was pushed, from `pushed_model` and `report`; None: none.
        all_wait: whether nodes that need only labelled images wait for that, too. A condition is part of a node's
            cache key, so these then run anew with each span: where a cached node costs nothing, False is better.
        **runner_settings: of `tfx.orchestration.pipeline.Pipeline`, such as the metadata store of a local run.
    """
    with contextlib.ExitStack() as conditions:
        nodes = _nodes(
            config,
            locations,
            fingerprints=fingerprints or {},
            pretrainer=pretrainer,
            distiller=distiller,
            registrar=registrar,
            conditions=conditions,
            all_wait=all_wait,
        )
    return Pipeline(
        pipeline_name=NAME,
        pipeline_root=locations.artifacts,
        components=nodes,
        enable_cache=True,
        beam_pipeline_args=list(beam_pipeline_args),
        **runner_settings,
    )


def _nodes(
    config: PipelineConfig,
    locations: Locations,
    *,
    fingerprints: Mapping[str, str],
    pretrainer: Callable[..., Trainer],
    distiller: Callable[..., Distill],
    registrar: Callable[..., BaseNode] | None,
    conditions: contextlib.ExitStack,
    all_wait: bool,
) -> list[BaseNode]:
    """All nodes; what is made once a condition is entered is under it."""
    labeled_images = ingestion.labeled_images(config, fingerprints.get(LABELED, ""))
    if config.retrain.store:
        unlabeled_images = ingestion.new_images(config, fingerprints.get(_SPANS, ""), labeled_images)
        there_is_enough = ingestion.there_is_enough(unlabeled_images)
    else:
        unlabeled_images = ingestion.unlabeled_images(config, fingerprints.get(UNLABELED, ""), labeled_images)
        there_is_enough = contextlib.nullcontext()
    if all_wait:
        conditions.enter_context(there_is_enough)
    labeled = _prepare(LABELED, config, labeled_images)
    split = LabelFractionSplit(
        examples=labeled.transform.outputs["transformed_examples"],
        fractions=json.dumps(config.fractions),
        seed=config.seed,
        store=config.retrain.store,
        code_version=code_version("components.label_fraction_split.executor"),
    )
    # Where the split does not wait for new images, the gate doesn't either: without enough of them it reads none.
    leakage = LeakageGate(
        labeled=labeled_images.outputs["examples"],
        unlabeled=unlabeled_images.outputs["examples"],
        store=config.retrain.store,
        code_version=code_version("components.leakage_gate.executor"),
    )
    split.add_upstream_node(leakage)
    examples, graph = split.outputs["fraction_examples"], labeled.transform.outputs["transform_graph"]
    supervised = [
        trainings.classifier("supervised", config.supervised, fraction, config, examples, graph)
        for fraction in config.fractions
    ]
    if not all_wait:
        conditions.enter_context(there_is_enough)
    unlabeled = _prepare(UNLABELED, config, unlabeled_images)
    pretrain = trainings.pretrain(
        config,
        unlabeled.transform.outputs["transformed_examples"],
        graph,
        checkpoints=locations.checkpoints,
        pushed=locations.pushed,
        make=pretrainer,
    )
    pretrain.add_upstream_node(leakage)
    drift = [_drift(config, locations, unlabeled_images, labeled_images)] if config.retrain.store else []
    for compares in drift:
        pretrain.add_upstream_node(compares)
    linear_eval = LinearEval(
        model=pretrain.outputs["model"],
        transform_graph=graph,
        examples=examples,
        config=config.probe.model_dump_json(),
        fractions=json.dumps(config.fractions),
        seed=config.seed,
        code_version=code_version("components.linear_eval.executor"),
    )
    finetuned = [
        trainings.classifier(
            "finetune", config.finetune, fraction, config, examples, graph, pretrain.outputs["model"]
        )
        for fraction in config.fractions
    ]
    distilled = [
        trainings.distill(
            config,
            fraction,
            examples,
            graph,
            unlabeled=unlabeled.transform.outputs["transformed_examples"],
            teacher=teacher.outputs["model"],
            checkpoints=locations.checkpoints,
            make=distiller,
        )
        for fraction, teacher in zip(config.fractions, finetuned, strict=True)
        if config.distill.enabled
    ]
    candidate = (finetuned + distilled)[-1]
    evaluator = Evaluator(
        examples=labeled.images.outputs["examples"],
        example_splits=["test"],
        model=candidate.outputs["model"],
        eval_config=_eval_config(config),
    )
    push = Push(
        model=candidate.outputs["model"],
        pretrained=pretrain.outputs["model"],
        blessing=evaluator.outputs["blessing"],
        examples=labeled.images.outputs["examples"],
        destination=locations.pushed,
        max_regression=config.gate.max_regression,
        judged_by=config.gate.judged_by,
        confidence=config.gate.confidence,
        resamples=config.gate.resamples,
        seed=config.seed,
        code_version=code_version("components.push.component") + fingerprints.get("pushed", ""),
    )
    report = Report(
        unlabeled_summary=unlabeled.images.outputs["summary"],
        labeled_summary=labeled.images.outputs["summary"],
        pretrain_run=pretrain.outputs["model_run"],
        label_fractions=split.outputs["manifest"],
        probe_results=linear_eval.outputs["probe_results"],
        runs=[trainer.outputs["model_run"] for trainer in finetuned + distilled + supervised],
        evaluation=evaluator.outputs["evaluation"],
        blessing=evaluator.outputs["blessing"],
        pushed_model=push.outputs["pushed_model"],
        leakage=leakage.outputs["leakage"],
        drift=drift[0].outputs["drift"] if drift else None,
        configuration=dump(config),
        run_record=locations.run_record,
        code_version=code_version("components.report.executor"),
    )
    registered = []
    if registrar is not None:
        registered.append(registrar(pushed_model=push.outputs["pushed_model"], report=report.outputs["report"]))
    completed = []
    if config.retrain.store:
        completed.append(
            ingestion.span_trained(config, fingerprints.get(_SPANS, ""), unlabeled_images, report, registered)
        )
    return [
        labeled_images,
        unlabeled_images,
        *labeled.nodes,
        *unlabeled.nodes,
        leakage,
        *drift,
        split,
        pretrain,
        linear_eval,
        *finetuned,
        *distilled,
        *supervised,
        evaluator,
        push,
        report,
        *registered,
        *completed,
    ]


@dataclass(frozen=True)
class _Prepared:
    """The nodes that turn one source into checked, canonical examples."""

    images: ImageExampleGen | SpanIngest
    transform: Transform
    nodes: tuple[BaseNode, ...]


def _prepare(name: str, config: PipelineConfig, images: ImageExampleGen | SpanIngest) -> _Prepared:
    statistics = StatisticsGen(examples=images.outputs["examples"]).with_id(f"StatisticsGen-{name}")
    schema = SchemaGen(
        statistics=statistics.outputs["statistics"], infer_feature_shape=True, exclude_splits=["test"]
    ).with_id(f"SchemaGen-{name}")
    validator = ExampleValidator(
        statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"]
    ).with_id(f"ExampleValidator-{name}")
    gate = AnomalyGate(
        anomalies=validator.outputs["anomalies"],
        schema=schema.outputs["schema"],
        required_features=json.dumps(["image_bytes", "key"] + (["label"] if name == LABELED else [])),
        source=name,
        code_version=code_version("components.anomaly_gate.component"),
    ).with_id(f"AnomalyGate-{name}")
    transform = Transform(
        examples=images.outputs["examples"],
        schema=schema.outputs["schema"],
        preprocessing_fn=f"{_PREPROCESSING}.preprocessing_fn",
        custom_config={
            "short_side_px": config.data.image_size_px or 0,
            "max_short_side_px": config.data.max_image_size_px,
            "code_version": code_version(_PREPROCESSING),
        },
        disable_statistics=True,
        disable_analyzer_cache=True,
    ).with_id(f"Transform-{name}")
    transform.add_upstream_node(gate)
    return _Prepared(images, transform, (statistics, schema, validator, gate, transform))


def _drift(
    config: PipelineConfig, locations: Locations, unlabeled_images: SpanIngest, labeled_images: ImageExampleGen
) -> Drift:
    return Drift(
        unlabeled=unlabeled_images.outputs["examples"],
        labeled=labeled_images.outputs["examples"],
        pushed=locations.pushed,
        retrain=config.retrain.model_dump_json(),
        config=config.drift.model_dump_json(),
        seed=config.seed,
        code_version=code_version("components.drift.executor"),
    )


def _eval_config(config: PipelineConfig) -> tfma.EvalConfig:
    """Top-1 and top-5, over all test images and by class; blessed from `gate.min_top1` over all images on."""
    over_all_images = tfma.SlicingSpec()
    least = tfma.GenericValueThreshold(lower_bound=wrappers_pb2.DoubleValue(value=config.gate.min_top1))
    top1 = tfma.MetricConfig(
        class_name="SparseCategoricalAccuracy",
        config='"name": "top1"',
        per_slice_thresholds=[
            tfma.PerSliceMetricThreshold(
                slicing_specs=[over_all_images], threshold=tfma.MetricThreshold(value_threshold=least)
            )
        ],
    )
    top5 = tfma.MetricConfig(class_name="SparseTopKCategoricalAccuracy", config='"name": "top5", "k": 5')
    return tfma.EvalConfig(
        model_specs=[
            tfma.ModelSpec(signature_name="serving_default", label_key="label_index", prediction_key="probabilities")
        ],
        slicing_specs=[over_all_images, tfma.SlicingSpec(feature_keys=["label"])],
        metrics_specs=[
            tfma.MetricsSpec(metrics=[top1, top5, tfma.MetricConfig(class_name="ExampleCount")]),
        ],
    )
