"""Random views of an image, as in SimCLR (arXiv 2002.05709, appendix A and figure 4).

Order: random resized crop → horizontal flip → quarter turn → colour jitter → grayscale → clip → Gaussian blur →
Sobel → noise → cutout, or AutoAugment after the flip. Every op is computed for the whole batch with random draws for
each image, stateless: a view is a pure function of run seed, epoch, example key and view index. Draws are the same to
the bit in eager mode, in a graph and under XLA; pixels may differ by a rounding, since XLA joins products and sums.

Shapes: B images, H×W the canvas they are stored on, S the side of a view.
"""

import tensorflow as tf

from trainer import autoaugment, color, filters, geometry, planar, prng
from trainer.config import AugmentConfig, CropConfig

_CHUNK_PX = 2**16  # pixels of the views that are made at once on a CPU: what they need then stays in its cache


def two_views(
    images: tf.Tensor,
    keys: tf.Tensor,
    *,
    seed: int,
    epoch: tf.Tensor,
    config: AugmentConfig,
    sizes: tf.Tensor | None = None,
    by_taps: bool = True,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Two independent random views of each image.

    Args:
        images: [B, H, W, 3] uint8, or float in [0, 1].
        keys: [B] int64, a hash of each example's key.
        seed: of the run.
        epoch: scalar or [B] integer; another epoch gives other views.
        config: strengths and switches.
        sizes: [B, 2] int32 true height and width where images are padded to a common canvas; None: all of it.
        by_taps: how crops are resampled: by taps, best on a CPU, or by matrices, best elsewhere. The views are the
            same to a rounding; see `geometry.resample`.

    Returns:
        Two [B, S, S, 3] float32 tensors in [0, 1].

    Raises:
        ValueError: images or keys of another shape or type, or the size of a view is left to the images and their
            shape is unknown.
    """
    bare = AugmentConfig(crop=config.crop, jitter_strength=0.0, grayscale_probability=0.0)
    configs = (config, bare if config.one_sided else config)
    return _views(images, keys, configs, seed=seed, epoch=epoch, sizes=sizes, by_taps=by_taps)


def one_view(
    images: tf.Tensor,
    keys: tf.Tensor,
    *,
    seed: int,
    epoch: tf.Tensor,
    config: AugmentConfig,
    sizes: tf.Tensor | None = None,
    by_taps: bool = True,
) -> tf.Tensor:
    """One random view of each image, the first of `two_views`: the augmentation of training on labels."""
    return _views(images, keys, (config,), seed=seed, epoch=epoch, sizes=sizes, by_taps=by_taps)[0]


def _views(
    images: tf.Tensor,
    keys: tf.Tensor,
    configs: tuple[AugmentConfig, ...],
    *,
    seed: int,
    epoch: tf.Tensor,
    sizes: tf.Tensor | None,
    by_taps: bool,
) -> tuple[tf.Tensor, ...]:
    """A view of each image for each configuration."""
    images, keys = tf.convert_to_tensor(images), tf.convert_to_tensor(keys)
    _check(images, keys)
    if sizes is None:
        sizes = tf.broadcast_to(tf.shape(images)[1:3], [tf.shape(images)[0], 2])
    view_keys = [prng.view_keys(keys, seed=seed, epoch=epoch, view=view) for view in range(len(configs))]
    side = _side(images, configs[0].crop)

    def make(inputs: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        images, sizes, *view_keys = inputs
        pairs = zip(view_keys, configs, strict=True)
        return tuple(_view(images, keys, sizes, config, side=side, by_taps=by_taps) for keys, config in pairs)

    inputs = (images, sizes, *view_keys)
    if not by_taps:
        return make(inputs)
    return planar.in_chunks(make, inputs, size=_CHUNK_PX / side**2, signature=(tf.float32,) * len(configs))


def _check(images: tf.Tensor, keys: tf.Tensor) -> None:
    if not images.shape.is_compatible_with([keys.shape[0] if keys.shape.rank else None, None, None, 3]):
        raise ValueError(f"images of shape {images.shape}: must be [B, H, W, 3], and keys [B], not {keys.shape}")
    if not (images.dtype == tf.uint8 or images.dtype.is_floating):
        raise ValueError(
            f"images of {images.dtype.name}: must be uint8, or float in [0, 1]; other integers have no range"
        )
    if keys.shape.rank not in (None, 1) or not keys.dtype.is_integer:
        raise ValueError(
            f"keys of {keys.dtype.name}, shape {keys.shape}: must be integers [B], such as hashes of names"
        )


def _side(images: tf.Tensor, crop: CropConfig) -> int:
    side = crop.size_px or images.shape[1:3].as_list()
    if isinstance(side, int):
        return side
    if None in side:
        raise ValueError(f"crop.size_px is null and the images' shape is {images.shape}: set crop.size_px")
    return min(side)


def _view(
    images: tf.Tensor, keys: tf.Tensor, sizes: tf.Tensor, config: AugmentConfig, *, side: int, by_taps: bool
) -> tf.Tensor:
    x = geometry.crop_and_flip(images, keys, sizes, config.crop, side=side, by_taps=by_taps)
    x = autoaugment.policy(x, keys) if config.policy == "autoaugment" else _simclr(x, keys, config)
    return tf.transpose(x, [0, 2, 3, 1])


def _simclr(x: tf.Tensor, keys: tf.Tensor, config: AugmentConfig) -> tf.Tensor:
    if config.rotate_probability > 0:
        x = geometry.quarter_turns(x, keys, probability=config.rotate_probability)
    if config.jitter_strength > 0:
        x = color.jitter(x, keys, config)
    if config.grayscale_probability > 0:
        x = color.grayscale(x, keys, probability=config.grayscale_probability)
    x = tf.clip_by_value(x, 0.0, 1.0)  # hue and luma can leave the interval by a rounding
    if config.blur_probability > 0:
        x = filters.blur(x, keys, probability=config.blur_probability, max_sigma_px=config.blur_max_sigma_px)
    if config.sobel_probability > 0:
        x = filters.sobel(x, keys, probability=config.sobel_probability)
    if config.noise_probability > 0:
        x = filters.noise(x, keys, probability=config.noise_probability, max_sigma=config.noise_max_sigma)
    if config.cutout_probability > 0:
        x = geometry.cutout(x, keys, probability=config.cutout_probability, share_of_side=config.cutout_side)
    return x
