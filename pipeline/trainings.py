"""The nodes that train: Pretrain, and for each share of the labels FineTune, the baseline and Distill."""

from collections.abc import Callable

from tfx.components import Trainer
from tfx.proto import trainer_pb2
from tfx.types import BaseChannel

from components.distill.component import Distill
from components.label_fraction_split.selection import fraction_split_name
from pipeline.code_version import code_version
from pipeline.config import PipelineConfig
from trainer.config import ClassifierConfig

_PRETRAIN = "components.training.pretrain"
_CLASSIFIER = "components.training.classifier"
_DISTILLATION = "components.training.distillation"


def pretrain(
    config: PipelineConfig,
    examples: BaseChannel,
    transform_graph: BaseChannel,
    *,
    checkpoints: str,
    pushed: str,
    make: Callable[..., Trainer],
) -> Trainer:
    """Pretrains on the unlabeled images.

    Args:
        config: of the run.
        examples: unlabeled, transformed.
        transform_graph: of the labelled images, whose size the network takes.
        checkpoints: where a training is taken up again that was killed.
        pushed: versions of the served model, of which the champion may be the start.
        make: makes the node from the arguments of the stock Trainer.
    """
    warm_start = {"warm_start": config.warm_start.model_dump_json(), "pushed": pushed}
    return make(
        run_fn=f"{_PRETRAIN}.run_fn",
        examples=examples,
        transform_graph=transform_graph,
        train_args=trainer_pb2.TrainArgs(splits=["train"]),
        eval_args=trainer_pb2.EvalArgs(splits=["train"]),
        custom_config={
            "config": config.pretrain.model_dump_json(),
            "seed": config.seed,
            "checkpoint_root": checkpoints,
            "code_version": code_version(_PRETRAIN),
            **(warm_start if config.warm_start.enabled else {}),
        },
    ).with_id("Pretrain")


def classifier(
    arm: str,
    settings: ClassifierConfig,
    fraction: float,
    config: PipelineConfig,
    examples: BaseChannel,
    transform_graph: BaseChannel,
    pretrained: BaseChannel | None = None,
) -> Trainer:
    """Fine-tunes what was pretrained on a share of the labels, or trains the same network from scratch.

    Args:
        arm: finetune or supervised.
        settings: of this arm.
        fraction: of the labels.
        config: of the run.
        examples: labelled, a split for each fraction, and the split `test`.
        transform_graph: of the labelled images.
        pretrained: model of the pretraining; None: from scratch.
    """
    split = fraction_split_name(fraction)
    node = {"finetune": "FineTune", "supervised": "Supervised"}[arm]
    return Trainer(
        run_fn=f"{_CLASSIFIER}.run_fn",
        examples=examples,
        transform_graph=transform_graph,
        base_model=pretrained,
        train_args=trainer_pb2.TrainArgs(splits=[split]),
        eval_args=trainer_pb2.EvalArgs(splits=["test"]),
        custom_config={
            "arm": arm,
            "fraction": fraction,
            "config": settings.model_dump_json(),
            "encoder": config.pretrain.encoder.model_dump_json(),
            "seed": config.seed,
            "code_version": code_version(_CLASSIFIER),
        },
    ).with_id(_name(node, split))


def distill(
    config: PipelineConfig,
    fraction: float,
    examples: BaseChannel,
    transform_graph: BaseChannel,
    *,
    unlabeled: BaseChannel,
    teacher: BaseChannel,
    checkpoints: str,
    make: Callable[..., Distill],
) -> Distill:
    """Teaches a student on the unlabeled images what was fine-tuned on a share of the labels.

    Args:
        config: of the run.
        fraction: of the labels.
        examples: labelled, a split for each fraction, and the split `test`.
        transform_graph: of the labelled images.
        unlabeled: examples that were pretrained on.
        teacher: model that was fine-tuned on the fraction.
        checkpoints: where a training is taken up again that was killed.
        make: makes the node from the arguments of Distill.
    """
    split = fraction_split_name(fraction)
    return make(
        run_fn=f"{_DISTILLATION}.run_fn",
        examples=examples,
        unlabeled=unlabeled,
        transform_graph=transform_graph,
        base_model=teacher,
        train_args=trainer_pb2.TrainArgs(splits=[split]),
        eval_args=trainer_pb2.EvalArgs(splits=["test"]),
        custom_config={
            "fraction": fraction,
            "config": config.distill.model_dump_json(exclude={"enabled"}),
            "seed": config.seed,
            "checkpoint_root": checkpoints,
            "code_version": code_version(_DISTILLATION),
        },
    ).with_id(_name("Distill", split))


def _name(node: str, split: str) -> str:
    return f"{node}-{split.removeprefix('fraction-')}"
