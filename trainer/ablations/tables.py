"""The papers' tables: the cells of each as settings; what was published of them is in `figures`."""

import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trainer.ablations import figures
from trainer.ablations.arms import Arm, Distilled, FineTuned, Kept, Linear, Supervised
from trainer.ablations.properties import Change
from trainer.config import MethodConfig, finetuning_on, load

_TOP1 = "linear top-1"
_LABEL_WEIGHT = 0.5  # of the labels where they join a distillation and the configuration says nothing


@dataclass(frozen=True)
class Cell:
    """One figure of a table: where it stands, the settings, and what is measured with them."""

    row: str
    column: str
    config: MethodConfig
    arm: Arm


@dataclass(frozen=True)
class Ablation:
    """A table of a paper.

    Attributes:
        name: on the command line.
        title: what it shows.
        cells: all of them, made from settings in which only what the table varies is changed.
        published: the figures that go with such settings, and their source.
        conclusion: of the paper, in words.
    """

    name: str
    title: str
    cells: Callable[[MethodConfig], list[Cell]]
    published: Callable[[MethodConfig], figures.Published]
    conclusion: str


def _changed(config: MethodConfig, settings: Mapping[str, Any]) -> MethodConfig:
    """The settings with some fields changed, checked like those of a user."""
    overrides = [f"{name}={json.dumps(value)}" for name, value in settings.items()]
    return load(MethodConfig, defaults=config.model_dump(mode="json"), overrides=overrides)


def _below(section: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{section}.{name}": value for name, value in settings.items()}


_NO_OPS = {
    "policy": "simclr",
    "jitter_strength": 0.0,
    "grayscale_probability": 0.0,
    "blur_probability": 0.0,
    "rotate_probability": 0.0,
    "sobel_probability": 0.0,
    "noise_probability": 0.0,
    "cutout_probability": 0.0,
}
_COLORS = {
    label: _NO_OPS | {"jitter_strength": strength, "grayscale_probability": 0.2, "blur_probability": blur}
    for label, strength, blur in [
        ("1/8", 0.125, 0.0),
        ("1/4", 0.25, 0.0),
        ("1/2", 0.5, 0.0),
        ("1", 1.0, 0.0),
        ("1 + blur", 1.0, 0.5),
    ]
} | {"AutoAugment": _NO_OPS | {"policy": "autoaugment"}}


def _color(config: MethodConfig) -> list[Cell]:
    simclr, supervised = (
        [
            Cell(row, column, _changed(config, _below(f"{section}.augment", settings)), arm)
            for column, settings in _COLORS.items()
        ]
        for row, section, arm in [("SimCLR", "pretrain", Linear()), ("supervised", "supervised", Supervised())]
    )
    return simclr + supervised


def _ops(config: MethodConfig) -> dict[str, dict[str, Any]]:
    own = config.pretrain.augment
    return {
        "crop": {"crop.probability": 1.0},
        "cutout": {"cutout_probability": 1.0},
        "color": {
            "jitter_strength": own.jitter_strength or 1.0,
            "jitter_probability": own.jitter_probability,
            "grayscale_probability": own.grayscale_probability,
        },
        "sobel": {"sobel_probability": 1.0},
        "noise": {"noise_probability": 1.0},
        "blur": {"blur_probability": 1.0},
        "rotate": {"rotate_probability": 0.75},  # by 0, 90, 180 and 270 degrees, each as often
    }


def _composition(config: MethodConfig) -> list[Cell]:
    # The ops have an order of their own, so that a pair is the same the other way round.
    ops, none = _ops(config), _NO_OPS | {"one_sided": True, "crop.probability": 0.0}
    return [
        Cell(first, second, _changed(config, _below("pretrain.augment", none | ops[first] | ops[second])), Linear())
        for first, second in itertools.combinations_with_replacement(ops, 2)
    ]


_HEAD_WIDTHS = (32, 64, 128, 256, 512, 1024, 2048)


def _head(config: MethodConfig) -> list[Cell]:
    start = _changed(config, {"finetune.head_layer": 0})  # which no table of linear probes needs
    return [Cell("none", "width of h", _changed(start, {"pretrain.head.kind": "none"}), Linear())] + [
        Cell(
            kind,
            str(width),
            _changed(start, {"pretrain.head.kind": kind, "pretrain.head.output_dim": width}),
            Linear(),
        )
        for kind, width in itertools.product(("linear", "nonlinear"), _HEAD_WIDTHS)
    ]


# What is told apart, and what the row's pretraining adds for it (table 3); any view may be gray already.
_CHANGES: dict[str, tuple[Change, dict[str, float]]] = {
    "color or gray (chance 80)": ("gray", {}),
    "rotation (chance 25)": ("rotation", {"rotate_probability": 0.75}),
    "original or noisy (chance 50)": ("noise", {"noise_probability": 0.5}),
    "original or Sobel (chance 50)": ("sobel", {"sobel_probability": 0.5}),
}


def _layers(config: MethodConfig) -> list[Cell]:
    as_wide_as_h = {"pretrain.head.output_dim": config.pretrain.encoder.output_dim}
    return [
        Cell(
            row,
            layer,
            _changed(config, _below("pretrain.augment", added) | as_wide_as_h),
            Kept(change, layer),
        )
        for (row, (change, added)), layer in itertools.product(_CHANGES.items(), ("h", "g(h)"))
    ]


# In proportion to the configured ones, as 256 … 8192 are to 4096 and 100 … 800 to 800 in appendix B.1.
_BATCH_FACTORS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2)
_EPOCH_FACTORS = (1 / 8, 1 / 4, 1 / 2, 1)
_USUAL_BATCH_SIZE = 256
_SMALLEST_BATCH_SIZE = 2  # has a negative


def _batch(config: MethodConfig) -> list[Cell]:
    batch_size = config.pretrain.batch_size or _USUAL_BATCH_SIZE
    sizes = sorted({max(round(batch_size * factor), _SMALLEST_BATCH_SIZE) for factor in _BATCH_FACTORS})
    epochs = sorted({max(round(config.pretrain.epochs * factor), 1) for factor in _EPOCH_FACTORS})
    return [
        Cell(
            f"batch {size}",
            f"{length} epochs",
            _changed(config, {"pretrain.batch_size": size, "pretrain.epochs": length}),
            Linear(),
        )
        for size, length in itertools.product(sizes, epochs)
    ]


def _temperature(config: MethodConfig) -> list[Cell]:
    return [
        Cell(f"τ {temperature}", _TOP1, _changed(config, {"pretrain.temperature": temperature}), Linear())
        for temperature in (0.05, 0.1, 0.5, 1.0)
    ]


_FRACTIONS = {"1%": 0.01, "10%": 0.1, "100%": 1.0}


def _labels(config: MethodConfig) -> list[Cell]:
    return [
        Cell(row, column, _tuned_for(config, fraction), arm)
        for column, fraction in _FRACTIONS.items()
        for row, arm in {
            "random": Linear(fraction, untrained=True),
            "supervised": Supervised(fraction),
            "linear": Linear(fraction),
            "finetune": FineTuned(fraction),
            "distilled": Distilled(fraction),
        }.items()
    ]


def _tuned_for(config: MethodConfig, fraction: float) -> MethodConfig:
    return config.model_copy(update={"finetune": finetuning_on(config.finetune, fraction)})


def _distillation(config: MethodConfig) -> list[Cell]:
    unlabeled = _changed(config, {"distill.label_weight": 0.0})
    both = _changed(config, {"distill.label_weight": config.distill.label_weight or _LABEL_WEIGHT})
    return [
        Cell(row, column, _tuned_for(settings, fraction), arm)
        for column, fraction in _FRACTIONS.items()
        if fraction < 1
        for row, settings, arm in [
            ("labels only", config, Supervised(fraction, student=True)),
            ("distilled on the labelled images", both, Distilled(fraction, on_labeled=True)),
            ("distilled with labels and unlabeled images", both, Distilled(fraction)),
            ("distilled on unlabeled images only", unlabeled, Distilled(fraction)),
        ]
    ]


_ALL = (
    Ablation(
        name="color",
        title="strength of the colour distortion",
        cells=_color,
        published=figures.color,
        conclusion="stronger colour helps SimCLR and harms supervised training; AutoAugment is no match for it",
    ),
    Ablation(
        name="composition",
        title="pairs of augmentations of one of the two views",
        cells=_composition,
        published=figures.composition,
        conclusion="no single one is enough, and crop with colour distortion stands out from all pairs",
    ),
    Ablation(
        name="head",
        title="projection head, by its kind and output width",
        cells=_head,
        published=figures.head,
        conclusion="a nonlinear head is better than a linear one and much better than none, whatever its width",
    ),
    Ablation(
        name="layers",
        title="what the layers before and after the projection head still tell of an image",
        cells=_layers,
        published=figures.layers,
        conclusion="the head throws away what the augmentation does, and h keeps it",
    ),
    Ablation(
        name="batch",
        title="batch size and length of the training",
        cells=_batch,
        published=figures.batch,
        conclusion="larger batches win where the training is short; the longer it is, the less the batch matters",
    ),
    Ablation(
        name="temperature",
        title="temperature of NT-Xent",
        cells=_temperature,
        published=figures.temperature,
        conclusion="with normalised embeddings the right temperature matters; 0.1 on ImageNet, 0.5 on CIFAR-10",
    ),
    Ablation(
        name="labels",
        title="labels and what is made of them",
        cells=_labels,
        published=figures.labels,
        conclusion="the fewer the labels, the more is gained over training from scratch",
    ),
    Ablation(
        name="distillation",
        title="what a student is taught with",
        cells=_distillation,
        published=figures.distillation,
        conclusion="unlabeled images make the difference, and with them the labels hardly add anything",
    ),
)
ABLATIONS: dict[str, Ablation] = {ablation.name: ablation for ablation in _ALL}
