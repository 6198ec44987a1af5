"""Counter-based random numbers: each value is a pure function of a key and a counter.

`tf.random.stateless_*` takes one seed for a whole batch and gives other values under XLA than in eager mode.
Threefry-2x32 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011) in plain uint32 operations
takes one key per example and is the same everywhere.
"""

from enum import IntEnum

import tensorflow as tf

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
_ROUND_GROUPS = 5
_MANTISSA_BITS = 24


class Stream(IntEnum):
    """The independent streams of a view's key, one for each use; another number is another view."""

    CROP = 0
    FLIP = 1
    JITTER = 2
    ORDER = 3
    GRAY = 4
    BLUR = 5
    CROPPED = 6
    ROTATE = 7
    CUTOUT = 8
    NOISE = 9
    NOISE_PIXELS = 10
    SOBEL = 11
    POLICY = 12


def threefry2x32(key: tf.Tensor, counter: tf.Tensor) -> tf.Tensor:
    """Encrypts counters under keys: 20 rounds of Threefry-2x32.

    Args:
        key: [..., 2] uint32.
        counter: [..., 2] uint32, of a shape that broadcasts with that of `key`.

    Returns:
        [..., 2] uint32, uniform bits.
    """
    key0, key1 = key[..., 0], key[..., 1]
    schedule = (key0, key1, key0 ^ key1 ^ tf.constant(_PARITY, tf.uint32))
    x0, x1 = counter[..., 0] + schedule[0], counter[..., 1] + schedule[1]
    for group in range(_ROUND_GROUPS):
        for bits in _ROTATIONS[group % 2]:
            x0 = x0 + x1
            x1 = _rotate_left(x1, bits) ^ x0
        x0 = x0 + schedule[(group + 1) % 3]
        x1 = x1 + schedule[(group + 2) % 3] + tf.constant(group + 1, tf.uint32)
    return tf.stack([x0, x1], axis=-1)


def _rotate_left(x: tf.Tensor, bits: int) -> tf.Tensor:
    left = tf.bitwise.left_shift(x, tf.constant(bits, tf.uint32))
    return left | tf.bitwise.right_shift(x, tf.constant(32 - bits, tf.uint32))


def split_int64(values: tf.Tensor) -> tf.Tensor:
    """Low and high words of int64 values: [...] int64 → [..., 2] uint32."""
    values = tf.cast(values, tf.uint64)
    low = tf.cast(values & tf.constant(0xFFFFFFFF, tf.uint64), tf.uint32)
    high = tf.cast(tf.bitwise.right_shift(values, tf.constant(32, tf.uint64)), tf.uint32)
    return tf.stack([low, high], axis=-1)


def view_keys(example_keys: tf.Tensor, *, seed: int, epoch: tf.Tensor, view: int) -> tf.Tensor:
    """The key of one view: a function of run seed, epoch, example and view index, and of nothing else.

    Args:
        example_keys: [B] int64, a hash of each example's key.
        seed: of the run, 0 … 2³²−1.
        epoch: scalar or [B] integer.
        view: index of the view.

    Returns:
        [B, 2] uint32.
    """
    run_key = tf.constant([seed & 0xFFFFFFFF, view], tf.uint32)
    epoch = tf.broadcast_to(tf.cast(epoch, tf.uint32), tf.shape(example_keys))
    of_epoch = threefry2x32(run_key, tf.stack([epoch, tf.zeros_like(epoch)], axis=-1))
    return threefry2x32(of_epoch, split_int64(example_keys))


def uniform(keys: tf.Tensor, *, count: int, stream: int) -> tf.Tensor:
    """`count` uniform numbers in [0, 1) for each key.

    Args:
        keys: [B, 2] uint32.
        count: numbers per key.
        stream: which of the key's independent streams; one for each use.

    Returns:
        [B, count] float32 multiples of 2⁻²⁴.
    """
    index = tf.range(count, dtype=tf.int32)
    counters = tf.stack([tf.cast(index, tf.uint32), tf.fill([count], tf.constant(stream, tf.uint32))], axis=-1)
    bits = threefry2x32(keys[:, None, :], counters[None])[..., 0]
    mantissa = tf.bitwise.right_shift(bits, tf.constant(32 - _MANTISSA_BITS, tf.uint32))
    return tf.cast(mantissa, tf.float32) * (2.0**-_MANTISSA_BITS)


def chosen(keys: tf.Tensor, *, probability: float, stream: int) -> tf.Tensor:
    """Whether each key belongs to a share of them: [B] bool. Nothing is drawn where all or none do."""
    if probability in (0.0, 1.0):
        return tf.fill(tf.shape(keys)[:1], probability == 1.0)
    return uniform(keys, count=1, stream=stream)[:, 0] < probability
