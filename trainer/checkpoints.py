"""Checkpoints of a training: whole or not there, refused where they do not fit."""

import json
import logging
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from trainer.config import ClassifierConfig, DistillConfig, PretrainConfig
from trainer.history import History

# Settings of a training that may change on the way: they move no weight, but for the rounding of another device.
FREE_SETTINGS = (
    "checkpoint_every_steps",
    "kept_checkpoints",
    "diagnostics",
    "compute.strategy",
    "compute.tpu",
    "compute.jit_compile",
)
_ABSENT = "absent"
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Saving:
    """Where and how often a training is saved.

    Attributes:
        directory: of one training; may be on gs://.
        every_steps: between two checkpoints; the last step is saved always.
        kept: newest checkpoints that are kept.
        identity: settings, seed and data of the training, as JSON values. A training whose identity differs in
            anything but `FREE_SETTINGS` does not go on from these checkpoints. None: nothing is compared.
    """

    directory: str
    every_steps: int
    kept: int = 2
    identity: Mapping[str, Any] | None = None


def saving_of(
    directory: str | None, config: PretrainConfig | ClassifierConfig | DistillConfig, **more: Any
) -> Saving | None:
    """How a training is saved whose identity is its settings and whatever else decides its weights, by name.

    None where there is no directory.
    """
    if directory is None:
        return None
    return Saving(
        directory,
        every_steps=config.checkpoint_every_steps,
        kept=config.kept_checkpoints,
        identity=config.model_dump(mode="json") | more,
    )


class Checkpoints:
    """The state of a training on disk: what is tracked, the steps done, and the history.

    The position in the data and the random numbers are functions of the seed and of the steps done, so the step
    stands for both. TensorFlow names a checkpoint in its state file when it is whole: a kill leaves the one before.
    """

    def __init__(self, saving: Saving, trackables: Mapping[str, Any]) -> None:
        """
        Args:
            saving: where and how often.
            trackables: models, optimiser and other state whose variables exist already.
        """
        self._saving = saving
        self._step = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._checkpoint = tf.train.Checkpoint(step=self._step, **trackables)
        # Made here and not at the first save, which only the chief does: workers make each variable together.
        _ = self._checkpoint.save_counter
        tf.io.gfile.makedirs(saving.directory)
        if _is_chief():
            _take_time_out(saving.directory)
        self._manager = tf.train.CheckpointManager(self._checkpoint, saving.directory, max_to_keep=saving.kept)
        self._saved_step = 0

    def restore(self, history: History) -> int:
        """Loads the newest checkpoint that can be read, if there is any, and the history up to it.

        Returns:
            The steps done; 0 where there is no checkpoint.

        Raises:
            ValueError: the checkpoints are of another training, or none of them can be read.
        """
        # Not as the manager lists them, whose list may be empty where the clock was moved back.
        state = tf.train.get_checkpoint_state(self._saving.directory)
        paths = list(state.all_model_checkpoint_paths) if state else []
        if not paths:
            self._write_identity()
            return 0
        self._check_identity()
        for path in reversed(paths):
            try:
                self._checkpoint.restore(path).assert_consumed()
            except (tf.errors.OpError, IndexError) as error:  # TensorFlow's reader: IndexError for a file cut short
                _LOGGER.warning("checkpoint %s cannot be read, the one before is taken: %s", path, error)
            except (AssertionError, ValueError) as error:
                raise ValueError(
                    f"checkpoint {path} is of another network or optimiser: choose another directory ({error})"
                ) from error
            else:
                self._write_identity()
                self._saved_step = int(tf.convert_to_tensor(self._step))
                history.read(self._path("history.csv"), last_step=self._saved_step)
                return self._saved_step
        raise ValueError(
            f"none of the {len(paths)} checkpoints in {self._saving.directory} can be read: "
            "remove the directory to start anew"
        )

    def is_due(self, done: int) -> bool:
        """Whether a checkpoint is to be made after `done` steps."""
        return done % self._saving.every_steps == 0

    def save(self, done: int, history: History) -> None:
        """Writes a checkpoint and removes those beyond the kept ones; nothing if these steps are saved already."""
        if done == self._saved_step:
            return
        self._step.assign(done)
        if _is_chief():
            # The history goes first: a kill between the two leaves rows beyond the checkpoint, which restore drops.
            history.write(self._path("history.csv"))
            self._manager.save(checkpoint_number=done)
        else:
            # Reading a variable may take all workers: each of them saves, and only the chief's files are kept.
            with tempfile.TemporaryDirectory() as unused:
                self._checkpoint.write(tf.io.gfile.join(unused, "unused"))
        _wait_for_all_workers()
        self._saved_step = done

    def _path(self, name: str) -> str:
        return tf.io.gfile.join(self._saving.directory, name)

    def _write_identity(self) -> None:
        if self._saving.identity is not None and _is_chief():
            partial = self._path("identity.json.partial")
            with tf.io.gfile.GFile(partial, "w") as file:
                file.write(json.dumps(dict(self._saving.identity), indent=1, ensure_ascii=False))
            tf.io.gfile.rename(partial, self._path("identity.json"), overwrite=True)

    def _check_identity(self) -> None:
        if self._saving.identity is None:
            return
        stored = {}
        if tf.io.gfile.exists(self._path("identity.json")):
            with tf.io.gfile.GFile(self._path("identity.json")) as file:
                stored = json.loads(file.read())
        found = differences(stored, self._saving.identity)
        if found:
            lines = "".join(f"\n  {name}: {there} there, {here} here" for name, (there, here) in found.items())
            raise ValueError(
                f"the checkpoints in {self._saving.directory} are of another training:{lines}\n"
                "give these settings their old values, or choose another directory"
            )


def _take_time_out(directory: str) -> None:
    """Lets TensorFlow's list of checkpoints go by their order alone.

    Its manager leaves out what is not later than the moment up to which it has kept checkpoints for good. Nothing is
    kept for good here; but where the clock was moved back since, that moment is ahead, and it would forget them all.
    """
    state = tf.train.get_checkpoint_state(directory)
    if state and state.last_preserved_timestamp >= time.time():
        tf.compat.v1.train.update_checkpoint_state(
            directory,
            state.model_checkpoint_path,
            all_model_checkpoint_paths=list(state.all_model_checkpoint_paths),
            all_model_checkpoint_timestamps=list(state.all_model_checkpoint_timestamps),
            last_preserved_timestamp=0.0,
        )


def differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """The settings in which two trainings differ, by dotted name: the values of both, as JSON.

    `FREE_SETTINGS` are left out, and what is below them.
    """
    there, here = _flat(stored), _flat(wanted)
    return {
        name: (there.get(name, _ABSENT), here.get(name, _ABSENT))
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name) and not _is_free(name)
    }


def fixed(settings: Mapping[str, Any]) -> dict[str, str]:
    """The settings that decide what a training comes to, by dotted name, as JSON: all but `FREE_SETTINGS`."""
    return {name: value for name, value in _flat(settings).items() if not _is_free(name)}


def _is_free(name: str) -> bool:
    """Whether a dotted name is one of `FREE_SETTINGS`, below one, or one of a stage among several."""
    return any(f".{free}." in f".{name}." for free in FREE_SETTINGS)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = json.dumps(value, ensure_ascii=False)
    return flat


def _wait_for_all_workers() -> None:
    """No worker looks for a checkpoint, or ends, before the chief has written it."""
    strategy = tf.distribute.get_strategy()
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(lambda: tf.ones([])), axis=None)


def _is_chief() -> bool:
    return tf.distribute.get_strategy().extended.should_checkpoint
