"""Learning-rate schedules."""

import math
from typing import Any

import tensorflow as tf
import tf_keras


@tf_keras.utils.register_keras_serializable(package="simclr")
class WarmupCosine(tf_keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up from 0 to the peak, then a cosine to 0 without restarts (arXiv 2002.05709, section 2.2)."""

    def __init__(self, peak: float, *, warmup_steps: int, total_steps: int) -> None:
        """
        Args:
            peak: learning rate at the end of the warm-up.
            warmup_steps: 0 … `total_steps`.
            total_steps: where the rate has fallen to 0.

        Raises:
            ValueError: the warm-up is longer than the training.
        """
        super().__init__()
        if not 0 <= warmup_steps <= total_steps:
            raise ValueError(f"warm-up of {warmup_steps} steps does not fit into {total_steps} steps: shorten it")
        self._peak, self._warmup_steps, self._total_steps = peak, warmup_steps, total_steps

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        step = tf.cast(step, tf.float32)
        rising = self._peak * (step + 1.0) / max(self._warmup_steps, 1)
        progress = (step - self._warmup_steps) / max(self._total_steps - self._warmup_steps, 1)
        falling = 0.5 * self._peak * (1.0 + tf.cos(math.pi * tf.clip_by_value(progress, 0.0, 1.0)))
        return tf.where(step < self._warmup_steps, rising, falling)

    def get_config(self) -> dict[str, Any]:
        return {"peak": self._peak, "warmup_steps": self._warmup_steps, "total_steps": self._total_steps}


@tf_keras.utils.register_keras_serializable(package="simclr")
class WarmupConstant(tf_keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up from 0 to the peak, then the peak to the end."""

    def __init__(self, peak: float, *, warmup_steps: int) -> None:
        """
        Args:
            peak: learning rate at the end of the warm-up.
            warmup_steps: at least 0.

        Raises:
            ValueError: the warm-up is negative.
        """
        super().__init__()
        if warmup_steps < 0:
            raise ValueError(f"warm-up of {warmup_steps} steps: must be 0 or more")
        self._peak, self._warmup_steps = peak, warmup_steps

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        return self._peak * tf.minimum((tf.cast(step, tf.float32) + 1.0) / max(self._warmup_steps, 1), 1.0)

    def get_config(self) -> dict[str, Any]:
        return {"peak": self._peak, "warmup_steps": self._warmup_steps}


def warmup_cosine(peak: float, *, warmup_steps: int, total_steps: int) -> WarmupCosine:
    """The schedule of pretraining; see `WarmupCosine`."""
    return WarmupCosine(peak, warmup_steps=warmup_steps, total_steps=total_steps)


def warmup_constant(peak: float, *, warmup_steps: int) -> WarmupConstant:
    """The schedule of fine-tuning, and without warm-up of linear evaluation; see `WarmupConstant`."""
    return WarmupConstant(peak, warmup_steps=warmup_steps)
