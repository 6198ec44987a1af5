"""What is measured: the sections, their cases, and the runs of each case that stand beside each other."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks import limits, pictures
from benchmarks.limits import Needs

LIGHTLY = "lightly"
_DIM = 128
_BLOCK_ROWS = 512
_CHUNK = 64
_WHOLE_BATCHES = (256, 1024)  # 4,096 at once would take about 12 GB
_RESNET_18 = {"stage_blocks": [2, 2, 2, 2], "width": 64}
_SMALL_NETWORK = {"stage_blocks": [1, 1, 1, 1], "width": 16}  # the trainer's default network
_TINY_NETWORK = {"stage_blocks": [1], "width": 4}
_PRECISIONS = ("float32", "mixed_bfloat16")


@dataclass(frozen=True)
class Run:
    """One process of one side.

    Attributes:
        name: of its row.
        side: module that does it.
        task: function of that module.
        settings: its arguments.
    """

    name: str
    side: Literal["ours", "theirs"]
    task: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class Case:
    """Runs of the same work.

    Attributes:
        name: of its rows.
        images: of one batch, which the figures are for; 0 where no images are about.
        needs: the least that a batch takes.
        runs: of both sides.
        cores: that each run gets.
    """

    name: str
    images: int
    needs: Needs
    runs: tuple[Run, ...]
    cores: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))


@dataclass(frozen=True)
class Section:
    """A table.

    Attributes:
        title: of the table.
        cases: its rows, in order.
        max_rounds: where more tell nothing new.
    """

    title: str
    cases: list[Case]
    max_rounds: int | None = None


def augmentation(*, quick: bool = False) -> Section:
    """Two views of decoded images, on one core."""
    cases = []
    for size_px, image_px, batch in ((32, (32, 32), 256), (224, pictures.PHOTO_PX, 32)):
        sizes = {"batch": 4 if quick else batch, "size_px": size_px}
        runs = _both("augmentation", sizes | {"repeats": 1 if quick else 5})
        needs = limits.two_views(**sizes, image_px=image_px)
        cases.append(Case(f"{_by(image_px)} → {size_px} px", sizes["batch"], needs, runs, cores=1))
    return Section("two views of decoded images, one core", cases)


def step(*, quick: bool = False) -> Section:
    """One training step of a ResNet-18 with the stem for small images, 32 px."""
    network = _TINY_NETWORK if quick else _RESNET_18
    cases = []
    for precision, batch, repeats in [("float32", 4, 1)] if quick else _step_sizes():
        sizes = network | {"batch": batch, "precision": precision}
        runs = _both("step", sizes | {"repeats": repeats})
        needs = limits.training_step(**sizes, size_px=pictures.SMALL_PX)
        cases.append(Case(f"{precision}, B {batch}", batch, needs, runs))
    return Section("one training step, ResNet-18 at 32 px", cases)


def _step_sizes() -> list[tuple[str, int, int]]:
    """Precision, batch and steps. PyTorch takes a minute for 64 images in emulated bfloat16, so there it gets 8."""
    wide = [(64, 2), (256, 1)]
    batches = {"float32": wide, "mixed_bfloat16": wide if "avx512_bf16" in _cpu_flags() else [(8, 1)]}
    return [(precision, *sizes) for precision in _PRECISIONS for sizes in batches[precision]]


def _cpu_flags() -> list[str]:
    return Path("/proc/cpuinfo").read_text().split()


def files(folder: Path, *, quick: bool = False) -> Section:
    """From files on disk to steps of the small network; writes the files into `folder`."""
    pngs, jpegs = folder / "png", folder / "jpeg"
    pictures.write_jpegs(jpegs, 4 if quick else 256)
    jpeg = f"JPEG {_by(pictures.PHOTO_PX)} → 64 px"
    if quick:
        cases = [_files_case(jpeg, jpegs, batch=2, size_px=64, quick=True)]
    else:
        pictures.write_pngs(pngs, 1536)
        cases = [
            _files_case("PNG 32 x 32 → 32 px", pngs, batch=256, size_px=32),
            _files_case(jpeg, jpegs, batch=64, size_px=64),
        ]
    return Section("from files to steps, small network", cases)


def _files_case(name: str, folder: Path, *, batch: int, size_px: int, quick: bool = False) -> Case:
    network = _TINY_NETWORK if quick else _SMALL_NETWORK
    common = network | {"folder": str(folder), "batch": batch, "size_px": size_px, "epochs": 1 if quick else 3}
    runs = [
        Run("ours, decoded once", "ours", "files", common | {"held": True}),
        Run("ours, decoded each epoch", "ours", "files", common | {"held": False}),
        Run(LIGHTLY, "theirs", "files", common | {"workers": 2}),
    ]
    needs = limits.training_step(**network, batch=batch, size_px=size_px, precision="float32")
    return Case(f"{name}, B {batch}", batch, needs, tuple(runs[1:] if quick else runs))


def loss(*, quick: bool = False) -> Section:
    """NT-Xent with its gradient: ours, one that keeps every matrix, and lightly's."""
    cases = []
    for rows in (64,) if quick else (1024, 4096, 16384):
        sizes = {"rows": rows, "dim": _DIM}
        runs = (
            Run("ours, whole", "ours", "loss", sizes),
            Run(f"ours, blocks of {_BLOCK_ROWS}", "ours", "loss", sizes | {"block_rows": _BLOCK_ROWS}),
            Run("naive", "ours", "loss", sizes | {"naive": True}),
            Run(LIGHTLY, "theirs", "loss", sizes),
        )
        cases.append(Case(f"{rows} rows", 0, limits.nt_xent(**sizes), runs))
    return Section("NT-Xent and its gradient, 128 dimensions", cases)


def memory(*, quick: bool = False) -> Section:
    """Cached gradients: the memory of a step whose batch goes through in chunks of one size."""
    cases, network = [], _TINY_NETWORK if quick else _SMALL_NETWORK
    for batch in (64,) if quick else (256, 1024, 4096):
        sizes = network | {"batch": batch, "block_rows": _BLOCK_ROWS}
        chunked = Run(f"chunks of {_CHUNK}", "ours", "cached", sizes | {"chunk": _CHUNK})
        whole = Run("whole", "ours", "cached", sizes | {"chunk": None})
        needs = limits.training_step(**network, batch=batch, size_px=pictures.SMALL_PX, precision="float32")
        cases.append(Case(f"B {batch}", batch, needs, (chunked, whole) if batch in _WHOLE_BATCHES else (chunked,)))
    return Section("cached gradients, small network at 32 px", cases, max_rounds=1)


def _both(task: str, settings: dict[str, Any]) -> tuple[Run, ...]:
    return Run("ours", "ours", task, settings), Run(LIGHTLY, "theirs", task, settings)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
