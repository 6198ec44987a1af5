"""The training loop that all stages share: steps on any number of replicas, history, checkpoints, and SIGTERM."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
import tf_keras

from trainer import lars, schedules
from trainer.checkpoints import Checkpoints, Saving
from trainer.config import OptimizerConfig
from trainer.history import History, Metrics

_LOGGED_POINTS = 200  # of a history, however long the training

Batch = dict[str, tf.Tensor]
Step = Callable[[Batch], dict[str, tf.Tensor]]
Batches = Callable[[int, tf.distribute.InputContext], Iterable[Batch]]
Watch = Callable[[int, Metrics | None], None]


@dataclass(frozen=True)
class Progress:
    """Where a training stands; what a progress bar or a log line needs.

    Attributes:
        step: steps done.
        total_steps: of the whole training.
        metrics: of the last logged step.
        images_per_s: since the first step of this process, which compiles.
        input_wait_share: of the same time, what the loop waited for batches, in [0, 1]. Where a device works on
            while the loop waits, this is more than the device waited.
    """

    step: int
    total_steps: int
    metrics: Metrics
    images_per_s: float
    input_wait_share: float = 0.0


Report = Callable[[Progress], None]


class PreemptedError(Exception):
    """SIGTERM came: the running step was finished and saved, and the same call goes on from there.

    Of a command line this is the end in good order: exit code 0 and the message. A pipeline's node has failed.
    """

    def __init__(self, done: int, *, total_steps: int, directory: str) -> None:
        super().__init__(
            f"stopped by SIGTERM after step {done} of {total_steps}, which is saved in {directory}: "
            "start the same training again to go on from there"
        )
        self.done = done


def build_optimizer(
    config: OptimizerConfig,
    variables: list[tf.Variable],
    *,
    batch_size: int,
    total_steps: int,
    steps_per_epoch: int | None = None,
    supervised_head: Iterable[tf.Variable] = (),
) -> tf_keras.optimizers.Optimizer:
    """The configured optimiser and its schedule; vectors (batch norm, biases) take no decay and no ratio.

    Args:
        config: of the optimiser.
        variables: that are trained.
        batch_size: images a step over all replicas, which the peak of the rate may depend on.
        total_steps: of the training.
        steps_per_epoch: of the same, for a warm-up that is counted in epochs.
        supervised_head: those of a classifier's head, which LARS neither decays nor adapts either.

    Raises:
        ValueError: such a warm-up, and no length of an epoch.
    """
    warmup_steps = config.warmup_steps(total_steps, steps_per_epoch=steps_per_epoch)
    schedule = _schedule(config, batch_size=batch_size, warmup_steps=warmup_steps, total_steps=total_steps)
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


def _schedule(
    config: OptimizerConfig, *, batch_size: int, warmup_steps: int, total_steps: int
) -> tf_keras.optimizers.schedules.LearningRateSchedule:
    peak = config.peak(batch_size)
    if config.decay == "constant":
        return schedules.warmup_constant(peak, warmup_steps=warmup_steps)
    return schedules.warmup_cosine(peak, warmup_steps=warmup_steps, total_steps=total_steps)


def train(
    step: Step,
    batches: Batches,
    *,
    trackables: dict[str, Any],
    optimizer: tf_keras.optimizers.Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    batch_size: int,
    jit_compile: bool = False,
    saving: Saving | None = None,
    log_dir: str | None = None,
    report: Report | None = None,
    watch: Watch | None = None,
) -> History:
    """Runs a training to its end under the strategy whose scope it is called in, from its last checkpoint if any.

    Args:
        step: one optimiser step of one replica on its share of a batch. Returns scalar metrics, `loss` among them:
            the replica's part of each, so that the sum over the replicas is the value for the whole batch.
        batches: given the number of steps already done and what part of the input is wanted
            (`data.training_batches` takes both), the remaining batches.
        trackables: models and other state that a checkpoint holds beside the optimiser.
        optimizer: counts the steps.
        total_steps: where the training ends.
        steps_per_epoch: for the history's epoch column.
        batch_size: images a step over all replicas, for the speed.
        jit_compile: compile the step with XLA; a TPU's strategy does it anyway.
        saving: where and how often checkpoints are made; None makes none.
        log_dir: of TensorBoard; None writes none.
        report: called at each logged step.
        watch: called after every step with the steps done, and the logged metrics where the step is logged;
            what it gives to `tf.summary` goes to `log_dir` too.

    Returns:
        The history, with the logged steps of the runs before the resume.

    Raises:
        FloatingPointError: the loss is no longer finite.
        PreemptedError: SIGTERM came. Only where checkpoints are made; else SIGTERM does what it did before.
        ValueError: the checkpoints are of another training, or the batches end before this one.
    """
    history = History()
    saver = Checkpoints(saving, {"optimizer": optimizer, **trackables}) if saving else None
    first_step = done = saver.restore(history) if saver else 0
    run = _on_all_replicas(step, jit_compile=jit_compile)
    log_every = max(total_steps // _LOGGED_POINTS, 1)
    clock = _Clock(batch_size)
    with _summaries(log_dir), _Sigterm(listen=saver is not None) as sigterm:
        for done, batch in _numbered(batches, first_step, total_steps, clock):
            metrics = run(batch, sigterm.flag())
            sigterms = metrics.pop("sigterm")
            is_last = done == total_steps
            row = None
            if done % log_every == 0 or is_last:
                row = _row(metrics, optimizer, done, steps_per_epoch)
                history.rows.append(row | clock.reading())
                for name, value in row.items():
                    tf.summary.scalar(name, value, step=done)
                if report:
                    report(Progress(done, total_steps, row, **clock.reading()))
            if watch:
                watch(done, row)
            must_stop = sigterm.reached_all(sigterms)
            if saver and (saver.is_due(done) or is_last or must_stop):
                # Not every step is logged: a checkpoint past a loss of NaN would stop each resume for good.
                _check_finite(metrics["loss"], done)
                saver.save(done, history)
            if must_stop and not is_last:
                raise PreemptedError(done, total_steps=total_steps, directory=saving.directory)
    if done < total_steps:
        raise ValueError(f"the batches ended after step {done} of {total_steps}: give the data more epochs")
    return history


def _on_all_replicas(step: Step, *, jit_compile: bool) -> Callable[[Batch, tf.Tensor], dict[str, tf.Tensor]]:
    strategy = tf.distribute.get_strategy()
    # What each replica runs is compiled, not the whole: XLA's programs are for one device.
    replica_step = tf.function(step, autograph=False, jit_compile=True) if jit_compile else step

    def parts_of(batch: Batch, sigterm: tf.Tensor) -> dict[str, tf.Tensor]:
        # The very same tensor from two replicas would count as one value, which cannot be summed.
        return {name: tf.identity(part) for name, part in (replica_step(batch) | {"sigterm": sigterm}).items()}

    # No function here branches on a tensor, and converting Keras' own code takes seconds: no autograph.
    @tf.function(autograph=False)
    def run(batch: Batch, sigterm: tf.Tensor) -> dict[str, tf.Tensor]:
        parts = strategy.run(parts_of, args=(batch, sigterm))
        return {name: strategy.reduce(tf.distribute.ReduceOp.SUM, part, axis=None) for name, part in parts.items()}

    return run


def _numbered(batches: Batches, first_step: int, total_steps: int, clock: "_Clock") -> Iterator[tuple[int, Batch]]:
    if first_step < total_steps:
        remaining = tf.distribute.get_strategy().distribute_datasets_from_function(
            lambda context: batches(first_step, context)
        )
        yield from zip(range(first_step + 1, total_steps + 1), clock.timing(remaining), strict=False)


def _row(
    metrics: dict[str, tf.Tensor], optimizer: tf_keras.optimizers.Optimizer, done: int, steps_per_epoch: int
) -> Metrics:
    values = {name: float(value) for name, value in metrics.items()}
    _check_finite(values["loss"], done)
    rate = float(tf.convert_to_tensor(optimizer.learning_rate))  # of a replicated variable too
    return {"step": done, "epoch": round(done / steps_per_epoch, 3), **values, "learning_rate": rate}


def _check_finite(loss: tf.Tensor | float, done: int) -> None:
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"the loss is {float(loss)} at step {done}: lower the learning rate or lengthen the warm-up"
        )


def _summaries(log_dir: str | None) -> Any:
    writes = log_dir and tf.distribute.get_strategy().extended.should_save_summary
    writer = tf.summary.create_file_writer(log_dir) if writes else tf.summary.create_noop_writer()
    return writer.as_default()


class _Clock:
    """Measures speed and waiting since the end of the first step, whose tracing and compiling belong to no rate."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._start()

    def _start(self) -> None:
        self._started, self._waited, self._steps = time.monotonic(), 0.0, 0

    def timing(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        iterator, is_first = iter(batches), True
        while True:
            asked = time.monotonic()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self._waited += time.monotonic() - asked
            self._steps += 1
            yield batch
            if is_first:
                self._start()
                is_first = False

    def reading(self) -> Metrics:
        elapsed = time.monotonic() - self._started
        return {
            "images_per_s": round(self._steps * self._batch_size / elapsed, 1),
            "input_wait_share": round(self._waited / elapsed, 4),
        }


class _Sigterm:
    """Notes SIGTERM, and lets all workers stop after the same step; only the main thread may hear signals."""

    def __init__(self, *, listen: bool) -> None:
        self._listens = listen and threading.current_thread() is threading.main_thread()
        self._has_workers = isinstance(tf.distribute.get_strategy(), tf.distribute.MultiWorkerMirroredStrategy)
        self._received = False
        self._flags = {received: tf.constant(float(received)) for received in (False, True)}

    def __enter__(self) -> "_Sigterm":
        if self._listens:
            self._previous = signal.signal(signal.SIGTERM, self._receive)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._listens:
            signal.signal(signal.SIGTERM, self._previous or signal.SIG_DFL)

    def _receive(self, signal_number: int, frame: object) -> None:
        self._received = True

    def flag(self) -> tf.Tensor:
        """1 where the signal has come to this worker, for the step to sum over all of them."""
        return self._flags[self._received and self._has_workers]

    def reached_all(self, total: tf.Tensor) -> bool:
        """Whether to stop after this step. One worker alone knows without waiting for the sum from the device."""
        return float(total) > 0 if self._has_workers else self._received
