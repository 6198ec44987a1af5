"""Views while they are made: [B, 3, S, S], colours in planes of their own, and on a CPU some at a time.

Colours beside each other in memory would keep a CPU from working on eight pixels at once, and what does not stay in
its cache would keep it waiting.
"""

import math
from collections.abc import Callable
from typing import Any

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


def in_chunks(make: Callable, inputs: tuple[tf.Tensor, ...], *, size: float, signature: Any) -> Any:
    """make(inputs), for some images at a time.

    Args:
        make: from inputs of [b, …] to tensors of [b, …], for any b.
        inputs: [B, …] each.
        size: about how many images at a time: the divisor of B that is nearest, or all where B is not known.
        signature: `fn_output_signature` of `tf.map_fn`.
    """
    batch_size = inputs[0].shape[0]
    if batch_size is None or batch_size <= size:
        return make(inputs)
    at_once = _divisor(batch_size, near=size)
    chunks = tuple(tf.reshape(x, [-1, at_once, *x.shape[1:]]) for x in inputs)
    made = tf.map_fn(make, chunks, fn_output_signature=signature)
    return tf.nest.map_structure(lambda x: tf.reshape(x, [batch_size, *x.shape[2:]]), made)


def in_parts(make: Callable[..., tf.Tensor], count: int, *, near: float, axis: int) -> tf.Tensor:
    """make(first=0, count=count), put together from parts whose count is the divisor that is nearest to `near`."""
    at_once = _divisor(count, near=near)
    if at_once == count:
        return make(first=0, count=count)
    firsts = tf.range(0, count, at_once)
    parts = tf.map_fn(lambda first: make(first=first, count=at_once), firsts, fn_output_signature=tf.float32)
    return tf.concat(tf.unstack(parts), axis=axis)


def _divisor(number: int, *, near: float) -> int:
    """The divisor of a number that is nearest by ratio, itself where it is less."""
    if number <= near:
        return number
    return min((n for n in range(1, number + 1) if number % n == 0), key=lambda n: abs(math.log(n / near)))
