import colorsys

import jitter_oracle
import numpy as np
import pytest
import tensorflow as tf
from example_files import random_images
from example_views import example_keys, four_sigma, view_keys, view_of, views_of, whole_image_config

from trainer import color, prng
from trainer.config import AugmentConfig


def test_jitter_strength_zero_leaves_colours_at_probability_one():
    images = random_images(8)
    off = view_of(images, whole_image_config(8))
    np.testing.assert_array_equal(view_of(images, whole_image_config(8, jitter_probability=1.0)), off)


@pytest.mark.parametrize(
    ("brightness", "strength"), [("multiplicative", 0.5), ("multiplicative", 1.25), ("additive", 1.0)]
)
def test_jitter_equals_the_oracle_in_every_order(brightness, strength):
    images = random_images(120, height=4, width=4)
    config = AugmentConfig(brightness=brightness, jitter_strength=strength, jitter_probability=1.0)
    keys = view_keys(120)
    planes = tf.constant(images.transpose(0, 3, 1, 2) / np.float32(255))
    jittered = color.jitter(planes, keys, config).numpy().transpose(0, 2, 3, 1)
    draws = prng.uniform(keys, count=5, stream=prng.Stream.JITTER).numpy()
    orders = np.argsort(prng.uniform(keys, count=4, stream=prng.Stream.ORDER), axis=1)
    assert len({tuple(order) for order in orders}) >= 23  # of 24
    for image, ours, (*factors, hue, _), order in zip(images, jittered, draws, orders, strict=True):
        factors = 1 + 0.8 * strength * (2 * np.float64(factors) - 1)
        expected = jitter_oracle.jitter(
            image / 255,
            order,
            **dict(zip(("brightness", "contrast", "saturation"), factors, strict=True)),
            hue_shift=0.2 * strength * (2 * float(hue) - 1),
            additive=brightness == "additive",
        )
        np.testing.assert_allclose(ours, expected, atol=2e-5)


def test_turn_hue_of_every_sector_and_of_gray_is_that_of_hsv():
    levels = np.linspace(0, 1, 4)
    colors = np.float32(np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 3))
    turns = np.float32([-0.25, -0.1, 0, 0.07, 1 / 6, 0.25, 0.5, 0.99])
    planes = tf.constant(np.broadcast_to(colors.T[None, :, None], [len(turns), 3, 1, len(colors)]))
    turned = color.turn_hue(planes, tf.constant(turns)).numpy()[:, :, 0]
    for ours, turn in zip(turned, turns, strict=True):
        hsv = [colorsys.rgb_to_hsv(*map(float, each)) for each in colors]
        expected = [colorsys.hsv_to_rgb((h + float(turn)) % 1, s, v) for h, s, v in hsv]
        np.testing.assert_allclose(ours.T, expected, atol=3e-6)


@pytest.mark.parametrize(("brightness", "mean"), [("multiplicative", 0.4), ("additive", 0.5)])
def test_jitter_brightness_of_even_gray_is_uniform_in_its_range_for_four_of_five(brightness, mean):
    # Contrast, saturation and hue cannot change an even gray: what is seen is brightness alone.
    images = np.full([2000, 1, 1, 3], mean, np.float32)
    strength = 1.0 if brightness == "multiplicative" else 0.5  # additive: short of the clip at 0 and 1
    view = view_of(images, whole_image_config(1, jitter_strength=strength, brightness=brightness))[:, 0, 0, 0]
    change = view / mean - 1 if brightness == "multiplicative" else view - mean
    jittered = np.abs(change) > 1e-6
    assert jittered.mean() == pytest.approx(0.8, abs=four_sigma(0.8, 2000))
    largest = 0.8 * strength
    assert -largest - 1e-6 <= change.min() < -0.97 * largest and 0.97 * largest < change.max() <= largest + 1e-6
    assert change[jittered].std() == pytest.approx(2 * largest / 12**0.5, rel=0.05)


def test_jitter_strongest_stays_in_the_unit_interval():
    config = whole_image_config(8, jitter_strength=1.25, jitter_probability=1.0)
    for view in views_of(random_images(64), config):
        assert view.min() >= 0 and view.max() <= 1 and np.isfinite(view).all()


def test_grayscale_turns_its_share_of_the_views_into_their_luma():
    images = np.tile(np.float32([0.9, 0.3, 0.1]), [2000, 2, 2, 1])
    view = view_of(images, whole_image_config(2, grayscale_probability=0.2), keys=example_keys(2000))
    gray = np.ptp(view, axis=-1).max(axis=(1, 2)) < 1e-6
    assert gray.mean() == pytest.approx(0.2, abs=four_sigma(0.2, 2000))
    np.testing.assert_allclose(view[gray], 0.299 * 0.9 + 0.587 * 0.3 + 0.114 * 0.1, atol=1e-6)
    np.testing.assert_allclose(view[~gray], images[~gray], atol=1e-6)
