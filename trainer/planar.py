"""Views while they are made: [B, 3, S, S], colours in planes of their own.

Colours beside each other in memory would keep a CPU from working on eight pixels at once.
"""

from collections.abc import Callable

import tensorflow as tf

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def luma(x: tf.Tensor) -> tf.Tensor:
    """Gray values: [B, 3, S, S] → [B, 1, S, S]."""
    return sum(weight * x[:, channel : channel + 1] for channel, weight in enumerate(_LUMA))


def choose(chosen: tf.Tensor, changed: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """The changed image where it is chosen, else the image: [B] bool, twice [B, …] → [B, …]."""
    return tf.where(per_image(chosen), changed, x)


def per_image(values: tf.Tensor) -> tf.Tensor:
    """One number for each image, ready to meet its pixels: [B] → [B, 1, 1, 1]."""
    return values[:, None, None, None]


def in_turn(steps: int, apply: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], x: tf.Tensor) -> tf.Tensor:
    """apply(steps − 1, … apply(1, apply(0, x))).

    A loop that is never unrolled: XLA fuses what follows each other and computes a step again for every pixel of the
    next one that looks at it, which takes more than ten times as long for the four ops of the colour jitter.
    """
    loop = (lambda step, _: step < steps), (lambda step, x: (step + 1, apply(step, x)))
    return tf.while_loop(*loop, (tf.constant(0), x))[1]
