"""AutoAugment's learned policy for ImageNet (arXiv 1805.09501, tables 6 and 9): the paper's comparison row.

Everything is integer arithmetic on levels 0 … 255, as Pillow's, so that it is the same to the bit in eager mode, in a
graph and under XLA. Ops of every kind are computed for all views, and each view takes those of its sub-policy.

Shapes: B views of side S, planar: [B, 3, S, S]; keys [B, 2] uint32, those of the views.
"""

import math

import numpy as np
import tensorflow as tf

from trainer import planar, prng

_LEVELS = 256
_FILL = 128  # gray, where an image was turned out of the frame
_FIXED_BITS = 16  # of the coordinates
_FIXED = 1 << _FIXED_BITS
_OPS_PER_VIEW = 2
# Sub-policies (table 9): op, probability, magnitude 0 … 9; None where the op has none.
_POLICY = (
    (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, None)),
    (("equalize", 0.8, None), ("equalize", 0.6, None)),
    (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
    (("equalize", 0.4, None), ("solarize", 0.2, 4)),
    (("equalize", 0.4, None), ("rotate", 0.8, 8)),
    (("solarize", 0.6, 3), ("equalize", 0.6, None)),
    (("posterize", 0.8, 5), ("equalize", 1.0, None)),
    (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
    (("equalize", 0.6, None), ("posterize", 0.4, 6)),
    (("rotate", 0.8, 8), ("color", 0.4, 0)),
    (("rotate", 0.4, 9), ("equalize", 0.6, None)),
    (("equalize", 0.0, None), ("equalize", 0.8, None)),
    (("invert", 0.6, None), ("equalize", 1.0, None)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("rotate", 0.8, 8), ("color", 1.0, 2)),
    (("color", 0.8, 8), ("solarize", 0.8, 7)),
    (("sharpness", 0.4, 7), ("invert", 0.6, None)),
    (("shear_x", 0.6, 5), ("equalize", 1.0, None)),
    (("color", 0.4, 0), ("equalize", 0.6, None)),
    (("equalize", 0.4, None), ("solarize", 0.2, 4)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, None)),
    (("invert", 0.6, None), ("equalize", 1.0, None)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("equalize", 0.8, None), ("equalize", 0.6, None)),
)
_OPS = (
    "none",
    *("posterize", "solarize", "autocontrast", "equalize", "invert"),  # a level for each level
    *("color", "contrast", "sharpness"),  # away from a duller image
    *("rotate", "shear_x"),  # pixels from elsewhere
)
_OP = {name: index for index, name in enumerate(_OPS)}


def policy(x: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
    """Two ops on each view, those of a sub-policy drawn for it, each with its probability.

    Args:
        x: [B, 3, S, S] float32 in [0, 1]; they are rounded to the levels of a byte.
        keys: [B, 2] uint32.

    Returns:
        [B, 3, S, S] float32, multiples of 1/255.
    """
    draws = prng.uniform(keys, count=1 + 2 * _OPS_PER_VIEW, stream=prng.Stream.POLICY)
    drawn = tf.cast(draws[:, 0] * len(_POLICY), tf.int32)
    op, probability, value, warp = (tf.gather(tf.constant(table), drawn) for table in _tables())

    def apply(step: tf.Tensor, levels: tf.Tensor) -> tf.Tensor:
        chosen = draws[:, 1 + 2 * step] < probability[:, step]
        sign = tf.where(draws[:, 2 + 2 * step] < 0.5, -1, 1)
        return apply_op(levels, tf.where(chosen, op[:, step], 0), value[:, step], warp[:, step], sign)

    levels = planar.in_turn(_OPS_PER_VIEW, apply, tf.cast(tf.floor(x * 255.0 + 0.5), tf.int32))
    return tf.cast(levels, tf.float32) * (1.0 / 255.0)


def apply_op(levels: tf.Tensor, op: tf.Tensor, value: tf.Tensor, warp: tf.Tensor, sign: tf.Tensor) -> tf.Tensor:
    """One op on each view.

    Args:
        levels: [B, 3, S, S] int32.
        op: [B] int32, index into `_OPS`.
        value: [B] int32, see `parameters`.
        warp: [B, 2, 2] int32, see `parameters`.
        sign: [B] int32, −1 or 1: the direction of rotation and shear.

    Returns:
        [B, 3, S, S] int32.
    """
    pixels = tf.reshape(levels, [-1, 3, levels.shape[2] * levels.shape[3]])
    mapped = tf.reshape(tf.gather(_level_table(pixels, op, value), pixels, batch_dims=2), tf.shape(levels))
    moved = planar.choose(op >= _OP["color"], _blend(levels, op, value), mapped)
    return planar.choose(op >= _OP["rotate"], _warp(levels, op == _OP["rotate"], warp, sign), moved)


def parameters(name: str, magnitude: int | None) -> tuple[int, list[list[int]]]:
    """What an op of a magnitude does: ten even steps of the paper's ranges (table 6).

    Returns:
        Bits kept (8 … 4), the first level that is inverted (256 … 0) or tenths of the image in a blend (1 … 19), 0
        for other ops; and the matrix from pixels of the result to those of the image, in 65536ths.
    """
    share = (magnitude or 0) / 9
    value = {"posterize": round(8 - 4 * share), "solarize": math.ceil(_LEVELS * (1 - share))}.get(name, 0)
    if name in ("color", "contrast", "sharpness"):
        value = round(1 + 18 * share)
    cosine, sine, shear = 1.0, 0.0, 0.0
    if name == "rotate":
        cosine, sine = math.cos(math.radians(30 * share)), math.sin(math.radians(30 * share))
    if name == "shear_x":
        shear = 0.3 * share
    matrix = [[cosine, shear - sine], [sine, cosine]]
    return value, [[round(_FIXED * number) for number in row] for row in matrix]


def _tables() -> tuple[np.ndarray, ...]:
    """Of the sub-policies' ops: index [25, 2], probability [25, 2], value [25, 2], matrix [25, 2, 2, 2]."""
    settings = [[parameters(name, magnitude) for name, _, magnitude in pair] for pair in _POLICY]
    return (
        np.array([[_OP[name] for name, _, _ in pair] for pair in _POLICY], np.int32),
        np.array([[probability for _, probability, _ in pair] for pair in _POLICY], np.float32),
        np.array([[value for value, _ in pair] for pair in settings], np.int32),
        np.array([[matrix for _, matrix in pair] for pair in settings], np.int32),
    )


def _level_table(pixels: tf.Tensor, op: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """What becomes of each level, [B, 3, 256] int32."""
    levels = tf.range(_LEVELS)[None, None]
    op, value = op[:, None, None], value[:, None, None]
    unit = tf.bitwise.left_shift(1, 8 - tf.clip_by_value(value, 0, 8))
    low, high = (edge(pixels, axis=2, keepdims=True) for edge in (tf.reduce_min, tf.reduce_max))
    stretched = tf.clip_by_value((levels - low) * 255 // tf.maximum(high - low, 1), 0, 255)
    table = tf.where(op == _OP["posterize"], levels // unit * unit, levels)
    inverted = (op == _OP["invert"]) | ((op == _OP["solarize"]) & (levels >= value))
    table = tf.where(inverted, 255 - levels, table)
    table = tf.where((op == _OP["autocontrast"]) & (high > low), stretched, table)
    return tf.where(op == _OP["equalize"], _equalized(pixels, high), table)


def _equalized(pixels: tf.Tensor, high: tf.Tensor) -> tf.Tensor:
    """Levels that make each colour's histogram flat, Pillow's way: [B, 3, P] → [B, 3, 256]."""
    planes = tf.reshape(pixels, [-1, tf.shape(pixels)[2]])
    count = tf.shape(planes)[0]
    bins = tf.reshape(planes + _LEVELS * tf.range(count)[:, None], [-1])
    histogram = tf.math.unsorted_segment_sum(tf.ones_like(bins), bins, _LEVELS * count)
    histogram = tf.reshape(histogram, [-1, 3, _LEVELS])
    # The brightest level is left out, so that it lands on 255.
    step = (tf.shape(pixels)[2] - tf.gather(histogram, high, batch_dims=2)) // 255
    below = tf.cumsum(histogram, axis=2, exclusive=True)
    table = tf.minimum((below + step // 2) // tf.maximum(step, 1), 255)
    return tf.where(step > 0, table, tf.range(_LEVELS))


def _blend(levels: tf.Tensor, op: tf.Tensor, tenths: tf.Tensor) -> tf.Tensor:
    """Color, contrast and sharpness: away from, or towards, the gray, the even and the smoothed image."""
    red, green, blue = tf.split(levels, 3, axis=1)
    gray = tf.bitwise.right_shift(19595 * red + 38470 * green + 7471 * blue + (1 << 15), 16)
    count = tf.shape(gray)[2] * tf.shape(gray)[3]
    mean = (2 * tf.reduce_sum(gray, axis=[1, 2, 3]) + count) // (2 * count)
    dull = planar.choose(op == _OP["color"], gray, planar.per_image(mean))
    dull = planar.choose(op == _OP["sharpness"], _smooth(levels), dull)
    return tf.truncatediv(tf.clip_by_value(10 * dull + planar.per_image(tenths) * (levels - dull), 0, 2559), 10)


def _smooth(levels: tf.Tensor) -> tf.Tensor:
    """The mean of each pixel, five times, and its eight neighbours; the frame stays."""
    side = levels.shape[2]
    if side < 3:
        return levels
    rows = levels[:, :, :-2] + levels[:, :, 1:-1] + levels[:, :, 2:]
    total = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * levels[:, :, 1:-1, 1:-1]
    inner = tf.pad(tf.truncatediv(2 * total + 13, 26), [[0, 0], [0, 0], [1, 1], [1, 1]])
    framed = (tf.range(side) % (side - 1) == 0)[:, None] | (tf.range(side) % (side - 1) == 0)
    return tf.where(framed, levels, inner)


def _warp(levels: tf.Tensor, about_center: tf.Tensor, matrix: tf.Tensor, sign: tf.Tensor) -> tf.Tensor:
    """Rotation about the centre and shear along the top edge, to the nearest pixel; gray outside of the image."""
    side = levels.shape[2]
    origin = tf.where(about_center, side, 0)[:, None]
    position = 2 * tf.range(side)[None] + 1 - origin  # twice the distance of pixels' middles from the origin
    matrix = matrix * tf.where([[True, False], [False, True]], 1, sign[:, None, None])
    from_x, from_y = position[:, None, None, :], position[:, None, :, None]
    source = matrix[:, :, 0, None, None] * from_x + matrix[:, :, 1, None, None] * from_y
    source = tf.bitwise.right_shift(source + _FIXED * origin[:, None, None], _FIXED_BITS + 1)
    column, row = tf.unstack(source, axis=1)
    inside = (column >= 0) & (column < side) & (row >= 0) & (row < side)
    index = tf.where(inside, row * side + column, 0)
    flat = tf.reshape(levels, [-1, 3, side * side])
    picked = tf.gather(flat, tf.reshape(index, [-1, side * side]), axis=2, batch_dims=1)
    return tf.where(inside[:, None], tf.reshape(picked, tf.shape(levels)), _FILL)
