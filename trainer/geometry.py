"""What moves pixels: random resized crop and flip, quarter turns, and the square that is cut out.

Shapes: B images, H×W the canvas they are stored on, S the side of a view. Views are planar: [B, 3, S, S] float32 in
[0, 1]; keys [B, 2] uint32, those of the views.
"""

import math
from functools import partial

import tensorflow as tf

from trainer import planar, prng
from trainer.config import CropConfig

_CROP_CANDIDATES = 10  # as torchvision and the reference draw them before they fall back to the whole image
# What a CPU makes at once, so that it stays in its cache: the fastest of several from 400x500 to 224 px.
_STRIP_PX = 2**14  # of the view
_COLUMNS = 112
_TAPS = 4
_CUTOUT_GRAY = 0.5  # the middle of the range: zero, where images are normalised


def crop_and_flip(
    images: tf.Tensor, keys: tf.Tensor, sizes: tf.Tensor, config: CropConfig, *, side: int, by_taps: bool
) -> tf.Tensor:
    """Random resized crop and flip.

    Args:
        images: [B, H, W, 3] uint8, or float in [0, 1].
        keys: [B, 2] uint32, of the views.
        sizes: [B, 2] true height and width of each image on its canvas.
        config: of crop and flip.
        side: S.
        by_taps: see `resample`.

    Returns:
        [B, 3, S, S] float32 in [0, 1].
    """
    top, left, height, width = crop_boxes(keys, tf.cast(sizes, tf.float32), config)
    flip = prng.chosen(keys, probability=config.flip_probability, stream=prng.Stream.FLIP)
    # A mirrored box is a box with its left edge on the right and a negative width.
    left, width = tf.where(flip, left + width, left), tf.where(flip, -width, width)
    settings = {"side": side, "interpolation": config.interpolation, "by_taps": by_taps}
    strip_px, columns = (_STRIP_PX, _COLUMNS) if by_taps else (math.inf, math.inf)
    canvas = tf.shape(images)

    def crop(inputs: tuple[tf.Tensor, ...]) -> tf.Tensor:
        lines, top, height, left, width = inputs

        def strip(first: tf.Tensor | int, count: int) -> tf.Tensor:
            """Some rows of the views, [B, 3, count, S]."""
            x = resample(lines, top, height, first=first, count=count, **settings)
            x = tf.transpose(tf.reshape(x, [-1, count, canvas[2], 3]), [0, 2, 3, 1])
            x = tf.reshape(x, [-1, canvas[2], 3 * count])
            x = planar.in_parts(partial(resample, x, left, width, **settings), side, near=columns, axis=1)
            return tf.transpose(tf.reshape(x, [-1, side, 3, count]), [0, 2, 3, 1])

        return planar.in_parts(strip, side, near=strip_px / side, axis=2)

    lines = tf.reshape(images, [canvas[0], canvas[1], canvas[2] * 3])
    x = planar.in_chunks(crop, (lines, top, height, left, width), size=strip_px / side**2, signature=tf.float32)
    # Times, not over: TensorFlow rewrites a division by a constant in some graphs only, and one ulp differs.
    x = x * (1.0 / 255.0) if images.dtype == tf.uint8 else x
    return tf.clip_by_value(x, 0.0, 1.0)  # bicubic weights are partly negative


def crop_boxes(keys: tf.Tensor, sizes: tf.Tensor, config: CropConfig) -> tuple[tf.Tensor, ...]:
    """First of ten boxes (area uniform, aspect log-uniform) that fits, else the largest centred one.

    Args:
        keys: [B, 2] uint32, of the views.
        sizes: [B, 2] float32 height and width of each image.
        config: of the crop; an image that it does not choose keeps its middle square.

    Returns:
        Top, left, height and width, each [B] float32 in pixels; no box is narrower than a pixel.
    """
    draws = prng.uniform(keys, count=4 * _CROP_CANDIDATES, stream=prng.Stream.CROP)
    draw_area, draw_aspect, draw_top, draw_left = tf.unstack(tf.reshape(draws, [-1, 4, _CROP_CANDIDATES]), axis=1)
    image_height, image_width = sizes[:, :1], sizes[:, 1:]
    area = (config.min_area + (config.max_area - config.min_area) * draw_area) * image_height * image_width
    aspect = tf.exp(math.log(config.max_aspect) * (2.0 * draw_aspect - 1.0))
    width, height = tf.sqrt(area * aspect), tf.sqrt(area / aspect)
    fits = (width <= image_width) & (height <= image_height)
    first = tf.argmax(tf.cast(fits, tf.int32), axis=1)
    width, height, draw_top, draw_left = (
        tf.gather(v, first, axis=1, batch_dims=1) for v in (width, height, draw_top, draw_left)
    )
    chosen = prng.chosen(keys, probability=config.probability, stream=prng.Stream.CROPPED)
    centred = ~(tf.reduce_any(fits, axis=1) & chosen)
    longest = tf.where(chosen, config.max_aspect, 1.0)
    width = tf.where(centred, tf.minimum(sizes[:, 1], sizes[:, 0] * longest), tf.maximum(width, 1.0))
    height = tf.where(centred, tf.minimum(sizes[:, 0], sizes[:, 1] * longest), tf.maximum(height, 1.0))
    draw_top, draw_left = tf.where(centred, 0.5, draw_top), tf.where(centred, 0.5, draw_left)
    return draw_top * (sizes[:, 0] - height), draw_left * (sizes[:, 1] - width), height, width


def resample(
    x: tf.Tensor,
    start: tf.Tensor,
    length: tf.Tensor,
    *,
    side: int,
    interpolation: str,
    by_taps: bool,
    first: tf.Tensor | int = 0,
    count: int | None = None,
) -> tf.Tensor:
    """Antialiased resampling of an interval of lines, one interval for each image.

    The filter is as wide as one output pixel (at least one input pixel), as in `tf.image.resize` with
    `antialias=True`, and a line that the interval holds a part of counts by that part. XLA compiles it, and not the
    image op.

    Args:
        x: [B, N, M], N lines of M numbers.
        start: [B] float32, where the interval begins, in lines from the canvas' edge.
        length: [B] float32, not 0; negative for a mirrored interval that runs backwards from `start`.
        side: number of lines that the interval becomes.
        interpolation: bilinear or bicubic.
        by_taps: gather the few lines that each output line is made of, right on a CPU; or multiply by a matrix that
            is mostly zeros, right where products are nearly free and gathers are slow. The numbers are the same.
        first: the first output line that is wanted.
        count: how many are wanted; None: all.

    Returns:
        [B, count, M] float32.
    """
    kernel, support = _KERNELS[interpolation]
    count = count or side
    scale = (length / side)[:, None, None]
    outputs = tf.cast(first, tf.float32) + tf.range(count, dtype=tf.float32)
    centers = start[:, None, None] + (outputs[:, None] + 0.5) * scale
    stretch = tf.maximum(tf.abs(scale), 1.0)
    low, high = (edge(start, start + length)[:, None, None] for edge in (tf.minimum, tf.maximum))

    def weigh(lines: tf.Tensor) -> tf.Tensor:
        """Weights of lines, [B, count, 1] or [1, 1, N], in each output line."""
        part = tf.clip_by_value(tf.minimum(lines + 1.0, high) - tf.maximum(lines, low), 0.0, 1.0)
        return part * kernel((lines + 0.5 - centers) / stretch)

    if not by_taps:
        weights = weigh(tf.range(tf.shape(x)[1], dtype=tf.float32)[None, None])
        return tf.matmul(weights, tf.cast(x, tf.float32)) / tf.reduce_sum(weights, axis=2, keepdims=True)

    begin, last = tf.math.ceil(centers - support * stretch - 0.5), tf.shape(x)[1] - 1
    taps = tf.cast(tf.math.ceil(2.0 * support * tf.reduce_max(stretch)), tf.int32)

    def add_taps(tap: tf.Tensor, total: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, ...]:
        for _ in range(_TAPS):
            lines = begin + tf.cast(tap, tf.float32)
            weights, index = weigh(lines), tf.clip_by_value(tf.cast(lines[:, :, 0], tf.int32), 0, last)
            y = y + weights * tf.cast(tf.gather(x, index, batch_dims=1), tf.float32)
            # In turn: TensorFlow's sum of many tensors begins with one that nothing else reads any more, and without
            # XLA a race between its threads would tell which, and round the sum.
            with tf.control_dependencies([y]):
                total = total + weights
            tap = tap + 1
        return tap, total, y

    # The first taps come before the loop, in which XLA adds to y in its place and so number by number.
    state = add_taps(tf.constant(0), tf.zeros_like(centers), tf.zeros([tf.shape(x)[0], count, tf.shape(x)[2]]))
    _, total, y = tf.while_loop(lambda tap, *_: tap < taps, add_taps, state)
    return y / total


def quarter_turns(x: tf.Tensor, keys: tf.Tensor, *, probability: float) -> tf.Tensor:
    """Turns a share of the views by 90, 180 or 270 degrees."""
    draws = prng.uniform(keys, count=2, stream=prng.Stream.ROTATE)
    turns = tf.where(draws[:, 1] < probability, 1 + tf.cast(3.0 * draws[:, 0], tf.int32), 0)
    half = planar.choose(turns >= 2, x[:, :, ::-1, ::-1], x)
    return planar.choose(turns % 2 == 1, tf.transpose(half, [0, 1, 3, 2])[:, :, ::-1], half)


def cutout(x: tf.Tensor, keys: tf.Tensor, *, probability: float, share_of_side: float) -> tf.Tensor:
    """Covers a square with gray, somewhere inside a share of the views (arXiv 1708.04552)."""
    draws = prng.uniform(keys, count=3, stream=prng.Stream.CUTOUT)
    side = x.shape[2]
    square = max(int(share_of_side * side), 1)
    start = tf.cast(draws[:, :2] * (side - square + 1), tf.int32)[:, :, None]
    covered = (tf.range(side) >= start) & (tf.range(side) < start + square)
    covered = covered[:, 0, :, None] & covered[:, 1, None, :] & (draws[:, 2] < probability)[:, None, None]
    return tf.where(covered[:, None], _CUTOUT_GRAY, x)


def _triangle(distance: tf.Tensor) -> tf.Tensor:
    return tf.nn.relu(1.0 - tf.abs(distance))


def _keys_cubic(distance: tf.Tensor) -> tf.Tensor:
    """Keys' cubic with a = −1/2 (1981), that of `tf.image.resize` and Pillow."""
    d = tf.abs(distance)
    near = (1.5 * d - 2.5) * d * d + 1.0
    far = ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0
    return tf.where(d < 1.0, near, tf.where(d < 2.0, far, 0.0))


_KERNELS = {"bilinear": (_triangle, 1.0), "bicubic": (_keys_cubic, 2.0)}
