"""Random views of an image, as in SimCLR (arXiv 2002.05709, appendix A).

Order: random resized crop → horizontal flip → colour jitter → grayscale → clip → Gaussian blur. Every op is
computed for the whole batch with one random draw per image, stateless: a view is a pure function of run seed,
epoch, example key and view index.

Shapes: B images, H×W the canvas they are stored on, S the side of a view, K the blur kernel's length.
"""

import math

import tensorflow as tf

from trainer import prng
from trainer.config import AugmentConfig, CropConfig

_CROP_CANDIDATES = 10  # as torchvision and the reference draw them before they fall back to the whole image
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_BLUR_SIGMA_PX = (0.1, 2.0)  # 2002.05709, appendix A
_STREAM_CROP, _STREAM_FLIP, _STREAM_JITTER, _STREAM_ORDER, _STREAM_GRAY, _STREAM_BLUR = range(6)


def two_views(
    images: tf.Tensor,
    keys: tf.Tensor,
    *,
    seed: int,
    epoch: tf.Tensor,
    config: AugmentConfig,
    sizes: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Two independent random views of each image.

    Args:
        images: [B, H, W, 3] uint8, or float in [0, 1].
        keys: [B] int64, a hash of each example's key.
        seed: of the run.
        epoch: scalar integer; another epoch gives other views.
        config: strengths and switches.
        sizes: [B, 2] int32 true height and width where images are padded to a common canvas; None: all of it.

    Returns:
        Two [B, S, S, 3] float32 tensors in [0, 1].
    """
    return tuple(
        _view(images, prng.view_keys(keys, seed=seed, epoch=epoch, view=view), config, sizes) for view in (0, 1)
    )


def one_view(
    images: tf.Tensor,
    keys: tf.Tensor,
    *,
    seed: int,
    epoch: tf.Tensor,
    config: AugmentConfig,
    sizes: tf.Tensor | None = None,
) -> tf.Tensor:
    """One random view of each image, for training on labels; see `two_views`, whose first view it is."""
    return _view(images, prng.view_keys(keys, seed=seed, epoch=epoch, view=0), config, sizes)


def crop_and_flip(
    images: tf.Tensor,
    keys: tf.Tensor,
    *,
    seed: int,
    epoch: tf.Tensor,
    config: CropConfig,
    sizes: tf.Tensor | None = None,
) -> tf.Tensor:
    """The augmentation of linear evaluation, fine-tuning and supervised training; see `two_views`."""
    view_keys = prng.view_keys(keys, seed=seed, epoch=epoch, view=0)
    return _crop_and_flip(_as_float(images), view_keys, config, sizes)


def _view(images: tf.Tensor, keys: tf.Tensor, config: AugmentConfig, sizes: tf.Tensor | None) -> tf.Tensor:
    x = _crop_and_flip(_as_float(images), keys, config.crop, sizes)
    if config.jitter_strength > 0:
        x = _color_jitter(x, keys, config)
    if config.grayscale_probability > 0:
        chosen = prng.uniform(keys, count=1, stream=_STREAM_GRAY) < config.grayscale_probability
        x = tf.where(chosen[:, :, None, None], _luma(x), x)
    x = tf.clip_by_value(x, 0.0, 1.0)  # hue and luma can leave the interval by a rounding
    if config.blur_probability > 0:
        x = _gaussian_blur(x, keys, config)
    return x


def _as_float(images: tf.Tensor) -> tf.Tensor:
    if images.dtype == tf.uint8:
        return tf.cast(images, tf.float32) / 255.0
    return tf.cast(images, tf.float32)


def _crop_and_flip(x: tf.Tensor, keys: tf.Tensor, config: CropConfig, sizes: tf.Tensor | None) -> tf.Tensor:
    if sizes is None:
        sizes = tf.broadcast_to(tf.shape(x)[1:3], [tf.shape(x)[0], 2])
    top, left, height, width = _crop_boxes(keys, tf.cast(sizes, tf.float32), config)
    flip = prng.uniform(keys, count=1, stream=_STREAM_FLIP)[:, 0] < 0.5
    # A mirrored box is a box with its left edge on the right and a negative width.
    left, width = tf.where(flip, left + width, left), tf.where(flip, -width, width)
    rows = resampling_matrix(top, height, canvas=tf.shape(x)[1], side=config.size_px)
    columns = resampling_matrix(left, width, canvas=tf.shape(x)[2], side=config.size_px)
    x = tf.einsum("bsh,bhwc->bswc", rows, x)
    return tf.clip_by_value(tf.einsum("btw,bswc->bstc", columns, x), 0.0, 1.0)


def _crop_boxes(keys: tf.Tensor, sizes: tf.Tensor, config: CropConfig) -> tuple[tf.Tensor, ...]:
    """First of ten boxes (area uniform, aspect log-uniform) that fits, else the largest centred one."""
    draws = prng.uniform(keys, count=4 * _CROP_CANDIDATES, stream=_STREAM_CROP)
    draw_area, draw_aspect, draw_top, draw_left = tf.unstack(tf.reshape(draws, [-1, 4, _CROP_CANDIDATES]), axis=1)
    image_height, image_width = sizes[:, :1], sizes[:, 1:]
    area = (config.min_area + (config.max_area - config.min_area) * draw_area) * image_height * image_width
    log_aspect = math.log(config.max_aspect)
    aspect = tf.exp(log_aspect * (2.0 * draw_aspect - 1.0))
    width, height = tf.sqrt(area * aspect), tf.sqrt(area / aspect)
    fits = (width <= image_width) & (height <= image_height)
    first = tf.argmax(tf.cast(fits, tf.int32), axis=1)
    width, height, draw_top, draw_left = (
        tf.gather(v, first, axis=1, batch_dims=1) for v in (width, height, draw_top, draw_left)
    )
    none_fits = ~tf.reduce_any(fits, axis=1)
    width = tf.where(none_fits, tf.minimum(sizes[:, 1], sizes[:, 0] * config.max_aspect), width)
    height = tf.where(none_fits, tf.minimum(sizes[:, 0], sizes[:, 1] * config.max_aspect), height)
    draw_top, draw_left = tf.where(none_fits, 0.5, draw_top), tf.where(none_fits, 0.5, draw_left)
    return draw_top * (sizes[:, 0] - height), draw_left * (sizes[:, 1] - width), height, width


def resampling_matrix(start: tf.Tensor, length: tf.Tensor, *, canvas: tf.Tensor, side: int) -> tf.Tensor:
    """Antialiased bilinear resampling of an interval of pixels as a matrix, one for each image.

    A triangle filter as wide as one output pixel (at least one input pixel), as `tf.image.resize` with
    `antialias=True`. It is compilable by XLA, where the image op is not.

    Args:
        start: [B] float32, where the interval begins, in pixels from the canvas' edge.
        length: [B] float32; negative for a mirrored interval that runs backwards from `start`.
        canvas: number of pixels on the canvas along this axis.
        side: number of output pixels.

    Returns:
        [B, side, canvas] float32; each row sums to 1 and is zero outside the interval.
    """
    scale = length / side
    centers = start[:, None] + (tf.range(side, dtype=tf.float32)[None] + 0.5) * scale[:, None]
    pixels = tf.range(canvas, dtype=tf.float32) + 0.5
    radius = tf.maximum(tf.abs(scale), 1.0)[:, None, None]
    weights = tf.nn.relu(1.0 - tf.abs(pixels[None, None] - centers[:, :, None]) / radius)
    low, high = tf.minimum(start, start + length), tf.maximum(start, start + length)
    inside = (pixels[None] > low[:, None] - 0.5) & (pixels[None] < high[:, None] + 0.5)
    weights = weights * tf.cast(inside, tf.float32)[:, None]
    return weights / tf.reduce_sum(weights, axis=-1, keepdims=True)


def _color_jitter(x: tf.Tensor, keys: tf.Tensor, config: AugmentConfig) -> tf.Tensor:
    """Brightness, contrast, saturation and hue in a random order for each image, clipped after each."""
    draws = prng.uniform(keys, count=5, stream=_STREAM_JITTER)
    spread = 0.8 * config.jitter_strength * (2.0 * draws[:, :3] - 1.0)
    factors = tf.unstack((1.0 + spread)[:, :, None, None, None], axis=1)
    hue_shift = (0.2 * config.jitter_strength * (2.0 * draws[:, 3] - 1.0))[:, None, None]
    order = tf.argsort(prng.uniform(keys, count=4, stream=_STREAM_ORDER), axis=1)
    jittered = x
    for position in range(4):
        op = order[:, position][:, None, None, None]
        luma = _luma(jittered)
        mean = tf.reduce_mean(luma, axis=[1, 2], keepdims=True)
        # Each of the three blends the image with a duller one: black, its mean gray, its own gray.
        dull = tf.where(op == 0, 0.0, tf.where(op == 1, mean, luma))
        factor = tf.where(op == 0, factors[0], tf.where(op == 1, factors[1], factors[2]))
        blended = tf.clip_by_value(dull + factor * (jittered - dull), 0.0, 1.0)
        jittered = tf.where(op == 3, _shift_hue(jittered, hue_shift), blended)
    chosen = draws[:, 4] < config.jitter_probability
    return tf.where(chosen[:, None, None, None], jittered, x)


def _shift_hue(x: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
    hsv = tf.image.rgb_to_hsv(x)
    hue = tf.math.floormod(hsv[..., 0] + shift, 1.0)
    return tf.image.hsv_to_rgb(tf.stack([hue, hsv[..., 1], hsv[..., 2]], axis=-1))


def _luma(x: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(x * tf.constant(_LUMA), axis=-1, keepdims=True)


def _gaussian_blur(x: tf.Tensor, keys: tf.Tensor, config: AugmentConfig) -> tf.Tensor:
    """Blur with σ ~ U(0.1, 2.0) px for each image, as two banded matrices; edges are mirrored."""
    draws = prng.uniform(keys, count=2, stream=_STREAM_BLUR)
    low, high = _BLUR_SIGMA_PX
    sigma = low + (high - low) * draws[:, 0]
    side = x.shape[1]
    matrix = _blur_matrix(sigma, side=side, radius=max(side // 20, 1))
    blurred = tf.einsum("bsh,bhwc->bswc", matrix, x)
    blurred = tf.einsum("btw,bswc->bstc", matrix, blurred)
    chosen = draws[:, 1] < config.blur_probability
    return tf.where(chosen[:, None, None, None], blurred, x)


def _blur_matrix(sigma: tf.Tensor, *, side: int, radius: int) -> tf.Tensor:
    offsets = tf.range(-radius, radius + 1)
    kernel = tf.exp(-0.5 * tf.square(tf.cast(offsets, tf.float32)[None] / sigma[:, None]))
    kernel = kernel / tf.reduce_sum(kernel, axis=1, keepdims=True)
    sources = tf.range(side)[:, None] + offsets[None]
    sources = tf.abs(sources)
    sources = tf.where(sources >= side, 2 * (side - 1) - sources, sources)
    return tf.einsum("bk,skh->bsh", kernel, tf.one_hot(sources, side))
