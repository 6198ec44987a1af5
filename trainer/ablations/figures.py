"""What the papers published for the cells of `trainer.ablations.tables`: top-1 in percent, with paper and table.

Only printed tables are here. What exists as a picture alone (figures 5 and 8 of arXiv 2002.05709) is not read off,
and its cells have none.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from trainer.config import EncoderConfig, MethodConfig, encoder_of_depth

_V1, _V2 = "arXiv 2002.05709", "arXiv 2006.10029"
_V2_HEAD_LAYERS = 3
_Place = tuple[str, str]


@dataclass(frozen=True)
class Published:
    """Figures of a table.

    Attributes:
        source: paper and table, and what they were measured on.
        top1: in percent by row and column of the table.
    """

    source: str
    top1: Mapping[_Place, float] = field(default_factory=dict)


def color(_: MethodConfig) -> Published:
    """Strength of the colour distortion."""
    columns = ("1/8", "1/4", "1/2", "1", "1 + blur", "AutoAugment")
    rows = {"SimCLR": (59.6, 61.0, 62.6, 63.2, 64.5, 61.1), "supervised": (77.0, 76.7, 76.5, 75.7, 75.4, 77.1)}
    return Published(
        f"{_V1}, table 1: ImageNet, ResNet-50, linear evaluation; supervised on all labels", _grid(rows, columns)
    )


def composition(_: MethodConfig) -> Published:
    """Pairs of augmentations: the paper has a picture."""
    return Published(f"{_V1}, section 3.1: ImageNet, ResNet-50, linear evaluation; a picture, figure 5, no table")


def head(_: MethodConfig) -> Published:
    """Projection heads: the paper has a picture."""
    return Published(
        f"{_V1}, section 4.2: ImageNet, ResNet-50, linear evaluation of h; a picture, figure 8, no table"
    )


def layers(_: MethodConfig) -> Published:
    """What h and g(h) still tell of an image."""
    rows = {
        "color or gray (chance 80)": (99.3, 97.4),
        "rotation (chance 25)": (67.6, 25.6),
        "original or noisy (chance 50)": (99.5, 59.6),
        "original or Sobel (chance 50)": (96.6, 56.3),
    }
    return Published(f"{_V1}, table 3: ImageNet, ResNet-50, MLPs on h and g(h)", _grid(rows, ("h", "g(h)")))


# Rows 256 … 8192, columns 100 … 800 epochs; rates scaled linearly, and by the square root.
_BATCH_EPOCHS = (100, 200, 400, 800)
_BATCH = {
    "linear": {
        256: (57.5, 61.9, 64.7, 66.6),
        512: (60.7, 64.0, 66.2, 67.8),
        1024: (62.8, 65.3, 67.2, 68.5),
        2048: (64.0, 66.1, 68.1, 68.9),
        4096: (64.6, 66.5, 68.2, 68.9),
        8192: (64.8, 66.6, 67.8, 69.0),
    },
    "sqrt": {
        256: (62.8, 64.3, 65.7, 66.5),
        512: (63.8, 65.6, 66.7, 67.4),
        1024: (64.3, 66.1, 67.2, 68.3),
        2048: (64.7, 66.8, 67.9, 68.8),
        4096: (64.5, 66.8, 68.0, 69.1),
        8192: (64.8, 67.0, 68.3, 69.1),
    },
}


def batch(config: MethodConfig) -> Published:
    """Batch size and epochs, for the configured rule of the learning rate; none for a rate that is not scaled."""
    scaling = config.pretrain.optimizer.scaling
    rows = {f"batch {size}": figures for size, figures in _BATCH.get(scaling, {}).items()}
    rule = {"linear": "0.3·B/256", "sqrt": "0.075·√B"}.get(scaling, "of a rule that is not configured here")
    return Published(
        f"{_V1}, table B.1: ImageNet, ResNet-50, linear evaluation, rates {rule}",
        _grid(rows, tuple(f"{epochs} epochs" for epochs in _BATCH_EPOCHS)),
    )


def temperature(_: MethodConfig) -> Published:
    """Temperature of NT-Xent on normalised z."""
    rows = {"τ 0.05": (59.7,), "τ 0.1": (64.4,), "τ 0.5": (60.7,), "τ 1.0": (58.0,)}
    return Published(
        f"{_V1}, table 5: ImageNet, ResNet-50, B 4096, 100 epochs, linear evaluation", _grid(rows, ("linear top-1",))
    )


_Network = tuple[tuple[int, ...], str, int, bool]


def _network(encoder: EncoderConfig) -> _Network:
    """What tells one published network from another; the papers' have no other stem or norm."""
    return encoder.stage_blocks, encoder.block, encoder.width, encoder.sk_ratio > 0


def _resnet(depth: int, width_multiplier: int = 1, *, has_sk: bool = False) -> _Network:
    return _network(encoder_of_depth(depth, width_multiplier=width_multiplier, sk_ratio=0.0625 if has_sk else 0.0))


_RESNET50 = _resnet(50)
_CIFAR10_NETWORK = encoder_of_depth(18, cifar_stem=True)
# Tables 6 and B.4: linear, and fine-tuned on 1% and 10%.
_V1_NETWORKS = {
    _resnet(50, width): (f"ResNet-50 {width}x", figures)
    for width, figures in {1: (69.3, 48.3, 65.6), 2: (74.2, 58.5, 71.7), 4: (76.5, 63.0, 74.4)}.items()
}
# Table 1, which the README of google-research/simclr repeats: linear, fine-tuned on 1%, 10% and 100%, supervised.
_V2_NETWORKS = {
    _resnet(depth, width, has_sk=has_sk): (f"ResNet-{depth} {width}x{' with SK' if has_sk else ''}", figures)
    for (depth, width, has_sk), figures in {
        (50, 1, False): (71.7, 57.9, 68.4, 76.3, 76.6),
        (50, 1, True): (74.6, 64.5, 72.1, 78.7, 78.5),
        (50, 2, False): (75.6, 66.3, 73.9, 79.1, 77.8),
        (50, 2, True): (77.7, 70.6, 77.0, 81.3, 79.3),
        (101, 1, False): (73.6, 62.1, 71.4, 78.2, 78.0),
        (101, 1, True): (76.3, 68.3, 75.1, 80.6, 79.6),
        (101, 2, False): (77.0, 69.1, 75.8, 80.7, 78.9),
        (101, 2, True): (79.0, 73.2, 78.8, 82.4, 80.1),
        (152, 1, False): (74.5, 64.0, 73.0, 79.3, 78.3),
        (152, 1, True): (77.2, 70.0, 76.5, 81.3, 79.9),
        (152, 2, False): (77.4, 70.2, 76.6, 81.1, 79.1),
        (152, 2, True): (79.4, 74.2, 79.4, 82.9, 80.4),
        (152, 3, True): (79.8, 74.9, 80.1, 83.1, 80.5),
    }.items()
}
_FEW_LABELS = Published(
    f"supervised on 1% and 10%: {_V1}, table B.4", {("supervised", "1%"): 25.4, ("supervised", "10%"): 56.4}
)
_DISTILLED = Published(
    f"distilled from a larger network: {_V2}, abstract", {("distilled", "1%"): 73.9, ("distilled", "10%"): 77.5}
)
_CIFAR10 = Published(
    "README of the authors' google-research/simclr: CIFAR-10, ResNet-18, B 512, 1000 epochs, about 91",
    {("linear", "100%"): 91.0},
)


def labels(config: MethodConfig) -> Published:
    """Labels and what is made of them: the configured network's, or ResNet-50's where the papers have it not."""
    if config.pretrain.encoder == _CIFAR10_NETWORK:
        return _CIFAR10
    network, student = _network(config.pretrain.encoder), _network(config.distill.student)
    if network in _V1_NETWORKS and config.pretrain.head.depth < _V2_HEAD_LAYERS:
        name, figures = _V1_NETWORKS[network]
        places = [("linear", "100%"), ("finetune", "1%"), ("finetune", "10%")]
        published = Published(f"{_V1}, tables 6 and B.4: ImageNet, {name}", dict(zip(places, figures, strict=True)))
        return _joined(published, _FEW_LABELS) if network == _RESNET50 else published
    if network not in _V2_NETWORKS:
        network = student = _RESNET50
    name, figures = _V2_NETWORKS[network]
    places = [("linear", "100%"), *itertools.product(["finetune"], ["1%", "10%", "100%"]), ("supervised", "100%")]
    parts = [Published(f"{_V2}, table 1: ImageNet, {name}", dict(zip(places, figures, strict=True)))]
    parts += [_FEW_LABELS] if network == _RESNET50 else []
    parts += [_DISTILLED] if student == _RESNET50 else []
    return _joined(*parts)


def distillation(_: MethodConfig) -> Published:
    """What a student is taught with."""
    rows = {
        "labels only": (12.3, 52.0),
        "distilled on the labelled images": (23.6, 66.2),
        "distilled with labels and unlabeled images": (69.0, 75.1),
        "distilled on unlabeled images only": (68.9, 74.3),
    }
    return Published(f"{_V2}, table 2: ImageNet, student ResNet-50", _grid(rows, ("1%", "10%")))


def _grid(rows: Mapping[str, Iterable[float]], columns: Sequence[str]) -> dict[_Place, float]:
    return {
        (row, column): value for row, values in rows.items() for column, value in zip(columns, values, strict=True)
    }


def _joined(*parts: Published) -> Published:
    return Published("; ".join(part.source for part in parts), {k: v for part in parts for k, v in part.top1.items()})
