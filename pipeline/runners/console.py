"""What a person sees of a run: nodes, progress, the table at the end. The libraries' own noise goes to a log file."""

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

_PLAIN_LINES_PER_STAGE = 10
_ARMS = ("linear", "finetune", "distill", "supervised", "random", "knn")
_LEARNING_NODES = ("Pretrain", "FineTune", "Distill", "Supervised", "LinearEval", "Evaluator")
_WIDTH_WITHOUT_TERMINAL = 120


@dataclass(frozen=True)
class Terminal:
    """What is left for people once the noise is gone: `out` on the real standard output, `err` on the real error."""

    out: Console
    err: Console


def divert_noise(log_path: str) -> Terminal:
    """Sends all that this process writes to its standard output and error to a log file, for the rest of its life.

    At the level of file descriptors, since TensorFlow and gRPC write past Python; and to the end, since they also
    write while the interpreter shuts down.

    Args:
        log_path: appended to.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    consoles = [_console_on(os.dup(descriptor)) for descriptor in (1, 2)]
    with open(log_path, "a", encoding="utf-8") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    return Terminal(*consoles)


def _console_on(descriptor: int) -> Console:
    file = os.fdopen(descriptor, "w", encoding="utf-8", errors="replace")
    return Console(file=file, width=None if os.isatty(descriptor) else _WIDTH_WITHOUT_TERMINAL, highlight=False)


class ProgressHandler(logging.Handler):
    """Draws what `simclr.progress` logs, a bar on a terminal, ten lines a stage elsewhere; and writes warnings."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._stage, self._lines = "", 0
        self._on_new_line = False

    def emit(self, record: logging.LogRecord) -> None:
        progress = getattr(record, "progress", None)
        if progress is None:
            if record.levelno >= logging.WARNING:
                self._warn(record.getMessage())
            return
        if self._console.is_terminal:
            self._draw(record.stage, progress)
            return
        if record.stage != self._stage:
            self._stage, self._lines = record.stage, 0
        if progress.step * _PLAIN_LINES_PER_STAGE >= (self._lines + 1) * progress.total_steps:
            self._lines = progress.step * _PLAIN_LINES_PER_STAGE // progress.total_steps
            self._console.print(f"\n        {record.getMessage()}", end="", markup=False)
            self._on_new_line = True

    def _warn(self, words: str) -> None:
        # Above the bar; elsewhere the node's line is not ended yet.
        start, end = ("", "\n") if self._bar else ("\n        ", "")
        self._console.print(f"{start}warning: {words}", end=end, markup=False)
        self._on_new_line = not self._bar

    def finish(self) -> str:
        """Takes the bar away; returns what brings the cursor from the progress back to the node's line."""
        if self._bar:
            self._bar.stop()
            self._bar, self._task = None, None
        back, self._on_new_line, self._stage = ("\n        " if self._on_new_line else ""), False, ""
        return back

    def _draw(self, stage: str, progress: Any) -> None:
        if self._bar is None:
            self._bar = Progress(
                TextColumn("    {task.description}"),
                BarColumn(),
                TextColumn(
                    "{task.completed}/{task.total} steps, loss {task.fields[loss]:.3f}, "
                    "{task.fields[speed]:.0f} images/s,"
                ),
                TimeRemainingColumn(compact=True),
                TextColumn("left"),
                console=self._console,
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(stage, total=progress.total_steps, loss=0.0, speed=0.0)
        self._bar.update(
            self._task, completed=progress.step, loss=progress.metrics["loss"], speed=progress.images_per_s
        )


def closing_line(seconds_by_node: Mapping[str, float], *, total_s: float, peak_bytes: int) -> str:
    """How long a run took, with the part that learns and evaluates apart, and the most memory that it held."""
    learning_s = sum(seconds for name, seconds in seconds_by_node.items() if name.startswith(_LEARNING_NODES))
    return (
        f"took {_minutes(total_s)}: {_minutes(learning_s)} of training and evaluation, "
        f"{_minutes(total_s - learning_s)} of everything else; peak memory {peak_bytes / 1e9:.2f} GB"
    )


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def accuracy_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Top-1 accuracy of each arm (down) at each label fraction (across)."""
    fractions = sorted({row["label_fraction"] for row in rows})
    labels = {row["label_fraction"]: row["n_labels"] for row in rows}
    table = Table(title="top-1 accuracy on the test images, %", title_justify="left")
    table.add_column("arm")
    for fraction in fractions:
        table.add_column(f"{100 * fraction:.4g}% of the labels ({labels[fraction]})", justify="right")
    by_arm = {(row["arm"], row["label_fraction"]): row["top1"] for row in rows}
    for arm in _ARMS:
        cells = [f"{100 * by_arm[arm, f]:.1f}" if (arm, f) in by_arm else "" for f in fractions]
        if any(cells):
            table.add_row(arm, *cells)
    return table
