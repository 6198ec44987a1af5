"""Runs a table cell by cell; what was measured is taken from its file, unless its settings were others."""

import dataclasses
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from trainer import checkpoints
from trainer.ablations.bench import Bench, Measured
from trainer.ablations.tables import Ablation, Cell

Say = Callable[[str], None]


@dataclass(frozen=True)
class Result:
    """A cell and what came out: `top1` and `top5` in [0, 1], and the settings that the probe chose."""

    cell: Cell
    measured: Measured


def run(ablation: Ablation, cells: list[Cell], bench: Bench, *, output: str, say: Say) -> list[Result]:
    """Measures the cells of a table that are not measured yet; a killed run goes on at the cell it was in.

    Args:
        ablation: the table.
        cells: of it, in the order in which they are run.
        bench: images and networks.
        output: folder with a file for each cell.
        say: receives a line for each cell.

    Returns:
        The results of all cells, those of earlier runs among them.
    """
    tf.io.gfile.makedirs(output)
    return [Result(cell, _measured(ablation, cell, bench, output=output, say=say)) for cell in cells]


def _measured(ablation: Ablation, cell: Cell, bench: Bench, *, output: str, say: Say) -> Measured:
    path, name = os.path.join(output, _file_name(cell)), f"{ablation.name}: {cell.row}, {cell.column}"
    identity = _identity(cell, bench)
    if tf.io.gfile.exists(path):
        stored = _read(path)
        changed = checkpoints.differences(stored["identity"], identity)
        if not changed:
            say(f"{name}: measured before")
            return stored["measured"]
        words = "; ".join(f"{setting} was {there}, is {here}" for setting, (there, here) in changed.items())
        say(f"{name}: measured again, since its settings have changed: {words}")
    else:
        say(f"{name}: measuring")
    started = time.monotonic()
    measured = cell.arm.measure(bench, cell.config)
    _write(path, {"identity": identity, "measured": measured, "seconds": round(time.monotonic() - started, 1)})
    return measured


def _identity(cell: Cell, bench: Bench) -> dict[str, Any]:
    arm = {"kind": type(cell.arm).__name__, **dataclasses.asdict(cell.arm)}
    settings = cell.config.model_dump(mode="json", include=set(cell.arm.sections))
    return {"arm": arm, **bench.identity(cell.config, labels=cell.arm.labels), **settings}


def _file_name(cell: Cell) -> str:
    return re.sub(r"[^\w.+-]+", "_", f"{cell.row}--{cell.column}") + ".json"


def _read(path: str) -> dict[str, Any]:
    with tf.io.gfile.GFile(path) as file:
        return json.load(file)


def _write(path: str, content: Mapping[str, Any]) -> None:
    # A kill while writing leaves no file, or the one before: the new one takes its name when it is whole.
    with tf.io.gfile.GFile(f"{path}.partial", "w") as file:
        file.write(json.dumps(content, indent=1, ensure_ascii=False))
    tf.io.gfile.rename(f"{path}.partial", path, overwrite=True)
