from collections import Counter

import autoaugment_oracle
import numpy as np
import pytest
import tensorflow as tf
from example_files import random_images
from example_views import four_sigma, view_keys

from trainer import autoaugment, prng

OPERATIONS = sorted({(name, magnitude) for pair in autoaugment._POLICY for name, _, magnitude in pair}, key=str)


def natural_images(count, side):
    """Smooth images whose colours each cover another part of the levels."""
    x = np.linspace(0, 1, side)
    low, high = np.random.default_rng(3).uniform([0, 0.6], [0.4, 1], [count, 3, 2]).transpose(2, 0, 1)
    waves = np.sin(x[:, None] * 5 + x[None] * 3)[None, :, :, None] / 2 + 0.5
    noise = np.random.default_rng(4).uniform(-0.05, 0.05, [count, side, side, 3])
    image = low[:, None, None] + (high - low)[:, None, None] * np.clip(waves + noise, 0, 1)
    return np.uint8(np.round(255 * image))


def apply_op(images, name, magnitude, sign):
    count = len(images)
    value, matrix = autoaugment.parameters(name, magnitude)
    levels = autoaugment.apply_op(
        tf.constant(images.transpose(0, 3, 1, 2), tf.int32),
        tf.fill([count], autoaugment._OPS.index(name)),
        tf.fill([count], value),
        tf.tile(tf.constant([matrix]), [count, 1, 1]),
        tf.fill([count], sign),
    )
    return levels.numpy().transpose(0, 2, 3, 1)


@pytest.mark.parametrize(("name", "magnitude"), OPERATIONS)
def test_op_equals_pillows(name, magnitude):
    images = np.concatenate([natural_images(3, 48), random_images(1, height=48, width=48)])
    signs = (1, -1) if name in ("rotate", "shear_x") else (1,)
    for sign in signs:
        ours = apply_op(images, name, magnitude, sign)
        theirs = np.stack([autoaugment_oracle.apply(image, name, magnitude, sign) for image in images]).astype(int)
        if len(signs) == 2:  # Pillow rounds the first pixel's place, not each: some edges fall the other way
            assert (ours != theirs).any(axis=-1).mean() < 0.005
        else:  # Pillow blends in float32, which may fall short of a whole level
            assert np.abs(ours - theirs).max() <= 1 and (ours != theirs).mean() < 0.02
        assert name == "posterize" or magnitude == 0 or (ours != images).any()


@pytest.mark.parametrize("level", [0, 77, 255])
@pytest.mark.parametrize("name", ["autocontrast", "equalize"])
def test_op_leaves_an_image_of_one_level(name, level):
    images = np.full([1, 16, 16, 3], level, np.uint8)  # more pixels than levels
    np.testing.assert_array_equal(apply_op(images, name, None, 1), images)


@pytest.mark.parametrize("side", [1, 2])
def test_op_of_tiny_images_is_defined(side):
    for name, magnitude in OPERATIONS:
        levels = apply_op(random_images(2, height=side, width=side), name, magnitude, 1)
        assert levels.shape == (2, side, side, 3) and levels.min() >= 0 and levels.max() <= 255


def test_parameters_span_the_papers_ranges():
    assert [autoaugment.parameters("posterize", m)[0] for m in (0, 9)] == [8, 4]
    assert [autoaugment.parameters("solarize", m)[0] for m in (0, 9)] == [256, 0]
    assert [autoaugment.parameters("color", m)[0] for m in (0, 9)] == [1, 19]  # tenths
    assert autoaugment.parameters("shear_x", 9)[1] == [[65536, round(0.3 * 65536)], [0, 65536]]
    assert autoaugment.parameters("rotate", 9)[1] == [[56756, -32768], [32768, 56756]]  # 30 degrees


def test_policy_is_that_of_the_papers_table():
    # Its 25 rows hold these ops and three rows of probability 0 or 1 that show the order of the columns.
    assert len(autoaugment._POLICY) == 25 and all(len(pair) == 2 for pair in autoaugment._POLICY)
    counts = Counter(name for pair in autoaugment._POLICY for name, _, _ in pair)
    assert counts == {
        "equalize": 17,
        "solarize": 7,
        "posterize": 5,
        "rotate": 6,
        "color": 6,
        "invert": 3,
        "contrast": 2,
        "autocontrast": 2,
        "sharpness": 1,
        "shear_x": 1,
    }


def test_policy_draws_each_subpolicy_alike_and_each_op_by_its_probability(monkeypatch):
    seen = []
    monkeypatch.setattr(
        autoaugment, "apply_op", lambda levels, op, value, warp, sign: seen.append((op, sign)) or levels
    )
    keys = view_keys(20_000)
    autoaugment.policy(tf.zeros([20_000, 3, 1, 1]), keys)
    drawn = (25 * prng.uniform(keys, count=5, stream=prng.Stream.POLICY).numpy()[:, 0]).astype(int)
    for row, pair in enumerate(autoaugment._POLICY):
        of_row = drawn == row
        assert of_row.mean() == pytest.approx(1 / 25, abs=four_sigma(1 / 25, 20_000))
        for (name, probability, _), (op, _) in zip(pair, seen, strict=True):
            index = autoaugment._OPS.index(name)
            assert set(np.unique(op.numpy()[of_row])) <= {0, index}
            share = (op.numpy()[of_row] == index).mean()
            assert share == pytest.approx(probability, abs=four_sigma(probability, of_row.sum()) + 1e-9)
    for _, sign in seen:
        assert (sign.numpy() > 0).mean() == pytest.approx(0.5, abs=four_sigma(0.5, 20_000))


def test_policy_first_op_is_done_before_the_second(monkeypatch):
    monkeypatch.setattr(autoaugment, "_POLICY", ((("solarize", 1.0, 5), ("posterize", 1.0, 9)),))
    images = natural_images(2, 8)
    view = autoaugment.policy(tf.constant(images.transpose(0, 3, 1, 2) / np.float32(255)), view_keys(2))
    expected = apply_op(np.uint8(apply_op(images, "solarize", 5, 1)), "posterize", 9, 1)
    np.testing.assert_allclose(view.numpy().transpose(0, 2, 3, 1), expected / 255, atol=1e-6)


def test_policy_eager_graph_and_xla_are_bit_identical():
    # On whole levels: a rounding in the crop before it can move a pixel by a level, and solarize makes that a leap.
    images = natural_images(200, 12)
    planes, keys = tf.constant(images.transpose(0, 3, 1, 2) / np.float32(255)), view_keys(200)
    eager = autoaugment.policy(planes, keys).numpy()
    assert (np.abs(eager - planes) > 0.01).any(axis=(1, 2, 3)).mean() > 0.6
    np.testing.assert_array_equal(tf.function(autoaugment.policy)(planes, keys), eager)
    np.testing.assert_array_equal(tf.function(autoaugment.policy, jit_compile=True)(planes, keys), eager)
