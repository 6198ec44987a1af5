"""Settings that leave one op of a view on, and views under them."""

import numpy as np
import tensorflow as tf

from trainer import augment, prng
from trainer.config import AugmentConfig, CropConfig

SEED, EPOCH = 3, 7
WHOLE = {"min_area": 1.0, "max_area": 1.0, "max_aspect": 1.0, "flip_probability": 0.0}
OFF = {"jitter_strength": 0.0, "grayscale_probability": 0.0, "blur_probability": 0.0}


def example_keys(count):
    return tf.constant(np.random.default_rng(5).integers(0, 2**62, [count]), tf.int64)


def view_keys(count, *, view=0):
    return prng.view_keys(example_keys(count), seed=SEED, epoch=EPOCH, view=view)


def whole_image_config(size_px, **settings):
    """The whole image, unmirrored, with nothing but the given settings done to it."""
    return AugmentConfig(crop=CropConfig(size_px=size_px, **WHOLE), **{**OFF, **settings})


def views_of(images, config, *, keys=None, seed=SEED, epoch=EPOCH, sizes=None, by_taps=True):
    keys = example_keys(len(images)) if keys is None else keys
    settings = {"seed": seed, "epoch": epoch, "config": config, "sizes": sizes, "by_taps": by_taps}
    return tuple(view.numpy() for view in augment.two_views(tf.constant(images), keys, **settings))


def view_of(images, config, **settings):
    return views_of(images, config, **settings)[0]


def four_sigma(probability, count):
    """How far a share may lie from its probability."""
    return 4 * (probability * (1 - probability) / count) ** 0.5
