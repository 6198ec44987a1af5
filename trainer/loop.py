"""The training loop that all stages share: steps, history, checkpoints, and going on where a run was killed."""

import csv
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import tensorflow as tf
import tf_keras

from trainer import lars, schedules
from trainer.config import OptimizerConfig

_KEPT_CHECKPOINTS = 2
_LOGGED_POINTS = 200  # of a history, however long the training
Metrics = dict[str, float]


@dataclass(frozen=True)
class Progress:
    """Where a training stands; what a progress bar or a log line needs.

    Attributes:
        step: steps done.
        total_steps: of the whole training.
        metrics: of the last logged step.
        images_per_s: since the start or the resume.
    """

    step: int
    total_steps: int
    metrics: Metrics
    images_per_s: float


Report = Callable[[Progress], None]


@dataclass
class History:
    """The logged steps of a training, in memory and as CSV."""

    rows: list[dict[str, float]] = field(default_factory=list)

    def write(self, path: str) -> None:
        """Writes the rows as CSV with a header; all of it, so that a resumed run leaves no gap and no double."""
        with tf.io.gfile.GFile(path, "w") as file:
            writer = csv.DictWriter(file, fieldnames=list(self.rows[0]) if self.rows else ["step"])
            writer.writeheader()
            writer.writerows(self.rows)


def build_optimizer(
    config: OptimizerConfig,
    variables: list[tf.Variable],
    *,
    total_steps: int,
    supervised_head: Iterable[tf.Variable] = (),
) -> tf_keras.optimizers.Optimizer:
    """The configured optimiser with warm-up and cosine; vectors (batch norm, biases) take no decay and no ratio.

    Args:
        config: of the optimiser.
        variables: that are trained.
        total_steps: of the training.
        supervised_head: those of a classifier's head, which LARS neither decays nor adapts either.
    """
    schedule = schedules.warmup_cosine(
        config.learning_rate, warmup_steps=round(config.warmup_share * total_steps), total_steps=total_steps
    )
    vectors = [variable for variable in variables if variable.shape.rank == 1]
    if config.name == "lars":
        optimizer = lars.LARS(schedule, weight_decay=config.weight_decay, exclude=[*vectors, *supervised_head])
    else:
        decay = config.weight_decay or None
        if config.name == "sgd":
            optimizer = tf_keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True, weight_decay=decay)
        else:
            optimizer = tf_keras.optimizers.AdamW(schedule, weight_decay=config.weight_decay)
        if decay:
            optimizer.exclude_from_weight_decay(var_list=vectors)
    optimizer.build(variables)
    return optimizer


def train(
    step: Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]],
    batches: Callable[[int], Iterable[dict[str, tf.Tensor]]],
    *,
    trackables: dict[str, Any],
    optimizer: tf_keras.optimizers.Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    batch_size: int,
    checkpoint_dir: str | None = None,
    checkpoint_every_steps: int = 0,
    log_dir: str | None = None,
    report: Report | None = None,
) -> History:
    """Runs a training to its end, from its last checkpoint if it has one.

    Args:
        step: one optimiser step on a batch; returns scalar metrics, `loss` among them.
        batches: given the number of steps already done, the remaining batches.
        trackables: models and other state that a checkpoint holds beside the optimiser.
        optimizer: counts the steps.
        total_steps: where the training ends.
        steps_per_epoch: for the history's epoch column.
        batch_size: images a step, for the speed.
        checkpoint_dir: where checkpoints are kept; None keeps none.
        checkpoint_every_steps: between two checkpoints.
        log_dir: of TensorBoard; None writes none.
        report: called at each logged step.

    Returns:
        The history, with the logged steps of the runs before the resume.

    Raises:
        FloatingPointError: the loss is no longer finite.
    """
    history = History()
    saver = _Checkpoints(checkpoint_dir, optimizer, trackables, history) if checkpoint_dir else None
    first_step = saver.restore() if saver else 0
    writer = tf.summary.create_file_writer(log_dir) if log_dir else tf.summary.create_noop_writer()
    log_every = max(total_steps // _LOGGED_POINTS, 1)
    started = time.monotonic()
    with writer.as_default():
        for done, batch in _numbered(batches(first_step), first_step, total_steps):
            metrics = step(batch)
            if done % log_every == 0 or done == total_steps:
                row = _row(metrics, optimizer, done, steps_per_epoch)
                speed = (done - first_step) * batch_size / (time.monotonic() - started)
                history.rows.append(row | {"images_per_s": round(speed, 1)})
                for name, value in row.items():
                    tf.summary.scalar(name, value, step=done)
                if report:
                    report(Progress(done, total_steps, row, speed))
            if saver and (done % checkpoint_every_steps == 0 or done == total_steps):
                # Not every step is logged: a checkpoint past a loss of NaN would stop each resume for good.
                _check_finite(metrics["loss"], done)
                saver.save(done)
    return history


def _numbered(batches: Iterable[Any], first_step: int, total_steps: int) -> Iterator[tuple[int, Any]]:
    if first_step < total_steps:
        yield from zip(range(first_step + 1, total_steps + 1), batches, strict=False)


def _row(
    metrics: dict[str, tf.Tensor], optimizer: tf_keras.optimizers.Optimizer, done: int, steps_per_epoch: int
) -> Metrics:
    values = {name: float(value) for name, value in metrics.items()}
    _check_finite(values["loss"], done)
    rate = float(optimizer.learning_rate)
    return {"step": done, "epoch": round(done / steps_per_epoch, 3), **values, "learning_rate": rate}


def _check_finite(loss: tf.Tensor | float, done: int) -> None:
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"the loss is {float(loss)} at step {done}: lower the learning rate or lengthen the warm-up"
        )


class _Checkpoints:
    """Weights, optimiser, step and history, saved together; TensorFlow renames each into place when it is whole."""

    def __init__(
        self,
        directory: str,
        optimizer: tf_keras.optimizers.Optimizer,
        trackables: dict[str, Any],
        history: History,
    ) -> None:
        self._history = history
        self._step = tf.Variable(0, dtype=tf.int64, trainable=False)
        checkpoint = tf.train.Checkpoint(step=self._step, optimizer=optimizer, **trackables)
        tf.io.gfile.makedirs(directory)
        self._manager = tf.train.CheckpointManager(checkpoint, directory, max_to_keep=_KEPT_CHECKPOINTS)
        self._history_path = str(PurePath(directory) / "history.csv")

    def restore(self) -> int:
        """Loads the newest checkpoint, if any, and returns the steps done."""
        if not self._manager.latest_checkpoint:
            return 0
        self._manager.checkpoint.restore(self._manager.latest_checkpoint).assert_consumed()
        done = int(self._step)
        with tf.io.gfile.GFile(self._history_path) as file:
            rows = [
                {name: float(value) for name, value in row.items()} | {"step": int(row["step"])}
                for row in csv.DictReader(file)
            ]
        self._history.rows.extend(row for row in rows if row["step"] <= done)
        return done

    def save(self, done: int) -> None:
        # The history goes first: a kill between the two leaves rows beyond the checkpoint, which restore drops.
        temporary = f"{self._history_path}.partial"
        self._history.write(temporary)
        tf.io.gfile.rename(temporary, self._history_path, overwrite=True)
        self._step.assign(done)
        self._manager.save(checkpoint_number=done)
