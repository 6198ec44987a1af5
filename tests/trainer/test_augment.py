import numpy as np
import pytest
import tensorflow as tf
from example_files import random_images
from example_views import EPOCH, OFF, SEED, WHOLE, example_keys, view_of, views_of, whole_image_config

from trainer import augment, color, filters, geometry, prng
from trainer.config import AugmentConfig, CropConfig

EVERYTHING = AugmentConfig(
    crop=CropConfig(size_px=12, probability=0.9),
    jitter_strength=1.0,
    blur_probability=0.5,
    cutout_probability=0.5,
    rotate_probability=0.5,
    noise_probability=0.5,
    sobel_probability=0.2,
)
SIMCLR = AugmentConfig(crop=CropConfig(size_px=12), jitter_strength=1.0, blur_probability=0.5)
# Each op beside crop and flip, alone and always.
OPS = {
    "jitter": {"jitter_strength": 1.0, "jitter_probability": 1.0},
    "brightness": {"jitter_strength": 1.0, "jitter_probability": 1.0, "brightness": "additive"},
    "grayscale": {"grayscale_probability": 1.0},
    "blur": {"blur_probability": 1.0},
    "cutout": {"cutout_probability": 1.0},
    "rotate": {"rotate_probability": 1.0},
    "noise": {"noise_probability": 1.0},
    "sobel": {"sobel_probability": 1.0},
    "policy": {"policy": "autoaugment"},
}


def test_views_everything_off_are_the_image():
    images = random_images(16)
    for view in views_of(images, whole_image_config(8)):
        np.testing.assert_allclose(view, images / np.float32(255), atol=1e-6)


@pytest.mark.parametrize("op", OPS)
def test_views_each_op_alone_changes_both_views(op):
    images = random_images(16)
    for view in views_of(images, whole_image_config(8, **OPS[op])):
        changed = (np.abs(view - images / 255) > 0.01).any(axis=(1, 2, 3))
        assert changed.sum() >= (4 if op == "policy" else 13)  # a small σ or an op of probability 0.4 changes nothing
        assert view.min() >= 0 and view.max() <= 1


@pytest.mark.parametrize("op", ["jitter", "blur", "noise", "policy"])
def test_views_one_sided_leaves_crop_and_flip_to_the_second(op):
    images, crop = random_images(16, height=10, width=10), CropConfig(size_px=8)
    config = AugmentConfig(crop=crop, **{**OFF, **OPS[op]})
    both, one = (views_of(images, config.model_copy(update={"one_sided": sided})) for sided in (False, True))
    bare = views_of(images, AugmentConfig(crop=crop, **OFF))
    np.testing.assert_array_equal(one[0], both[0])
    np.testing.assert_array_equal(one[1], bare[1])
    assert (one[1] != both[1]).any()


@pytest.mark.parametrize("op", ["rotate", "grayscale", "cutout", "blur"])
def test_views_an_ops_switch_leaves_the_draws_of_the_others(op):
    # Where the op's probability is so small that no view has it, all else must be as without it.
    images = random_images(16, height=10, width=10)
    switched = SIMCLR.model_copy(update={f"{op}_probability": 0.0})
    barely = SIMCLR.model_copy(update={f"{op}_probability": 1e-9})
    np.testing.assert_array_equal(views_of(images, barely), views_of(images, switched))


def test_streams_have_numbers_of_their_own_and_the_first_ones_keep_theirs():
    assert [stream.name for stream in prng.Stream][:6] == ["CROP", "FLIP", "JITTER", "ORDER", "GRAY", "BLUR"]
    assert [int(stream) for stream in prng.Stream] == list(range(len(prng.Stream)))


def test_views_ops_follow_each_other_in_the_papers_order():
    """Crop, flip, jitter, gray, clip, blur (2002.05709, appendix A)."""
    images, keys = random_images(16, height=20, width=24), example_keys(16)
    crop = CropConfig(size_px=16, interpolation="bicubic")
    config = AugmentConfig(crop=crop, jitter_strength=1.0, jitter_probability=1.0, blur_probability=1.0)
    of_view = prng.view_keys(keys, seed=SEED, epoch=EPOCH, view=0)
    sizes = tf.broadcast_to([20, 24], [16, 2])
    x = geometry.crop_and_flip(tf.constant(images), of_view, sizes, crop, side=16, by_taps=True)
    x = color.jitter(x, of_view, config)
    x = tf.clip_by_value(color.grayscale(x, of_view, probability=config.grayscale_probability), 0.0, 1.0)
    x = filters.blur(x, of_view, probability=1.0, max_sigma_px=config.blur_max_sigma_px)
    expected = tf.transpose(x, [0, 2, 3, 1])
    view = view_of(images, config, keys=keys)
    np.testing.assert_allclose(view, expected, atol=1e-5)
    assert view.min() >= 0 and view.max() <= 1, "pixels stay in [0, 1]: nothing normalises them"


# What a view is a function of.


def test_views_do_not_depend_on_batch_position_or_size():
    images, keys = random_images(6, height=10, width=10), example_keys(6)
    whole = views_of(images, EVERYTHING, keys=keys)
    order = [4, 1, 5]
    part = views_of(images[order], EVERYTHING, keys=tf.gather(keys, order))
    for all_views, some_views in zip(whole, part, strict=True):
        np.testing.assert_allclose(some_views, all_views[order], atol=1e-6)


@pytest.mark.parametrize("change", [{"seed": SEED + 1}, {"epoch": EPOCH + 1}, {"keys": example_keys(7)[1:]}])
def test_views_change_with_seed_epoch_and_key(change):
    images = random_images(6, height=10, width=10)
    base, other = views_of(images, SIMCLR, keys=example_keys(6)), views_of(images, SIMCLR, **change)
    for view, changed in zip(base, other, strict=True):
        assert (np.abs(view - changed).max(axis=(1, 2, 3)) > 0.05).all()


def test_views_same_inputs_give_the_same_bits():
    images = random_images(6, height=10, width=10)
    np.testing.assert_array_equal(views_of(images, EVERYTHING), views_of(images, EVERYTHING))


def test_views_first_and_second_are_different_crops():
    view_a, view_b = views_of(random_images(6, height=10, width=10), SIMCLR)
    assert (np.abs(view_a - view_b).max(axis=(1, 2, 3)) > 0.05).all()


def test_views_epoch_of_each_example_is_its_own():
    images = random_images(4, height=10, width=10)
    mixed = views_of(images, SIMCLR, epoch=tf.constant([EPOCH, 1, EPOCH, 1], tf.int64))
    for view, now, then in zip(mixed, views_of(images, SIMCLR), views_of(images, SIMCLR, epoch=1), strict=True):
        np.testing.assert_array_equal(view[::2], now[::2])
        np.testing.assert_array_equal(view[1::2], then[1::2])


def test_one_view_is_the_first_of_two_views():
    images, keys = random_images(6, height=10, width=10), example_keys(6)
    one = augment.one_view(images, keys, seed=SEED, epoch=EPOCH, config=EVERYTHING, by_taps=True)
    np.testing.assert_array_equal(one, view_of(images, EVERYTHING, keys=keys))


@pytest.mark.parametrize(("batch_size", "at_once"), [(6, 3), (7, 7), (9, 3)])
def test_views_in_chunks_are_those_of_the_whole_batch(monkeypatch, batch_size, at_once):
    images = random_images(batch_size, height=10, width=10)
    whole = views_of(images, EVERYTHING)
    seen, one = [], augment._view
    monkeypatch.setattr(
        augment, "_view", lambda images, *args, **named: seen.append(len(images)) or one(images, *args, **named)
    )
    monkeypatch.setattr(augment, "_CHUNK_PX", 4 * 12**2)
    np.testing.assert_allclose(views_of(images, EVERYTHING), whole, atol=1e-6)
    assert set(seen) == {at_once}


def test_views_size_left_to_the_images_is_their_short_side():
    images = random_images(3, height=9, width=14)
    assert view_of(images, AugmentConfig()).shape == (3, 9, 9, 3)


def test_views_size_left_to_images_of_unknown_shape_is_refused():
    settings = {"seed": 0, "epoch": 0, "config": AugmentConfig(), "by_taps": True}
    graph = tf.function(lambda images: augment.one_view(images, tf.zeros([2], tf.int64), **settings))
    with pytest.raises(ValueError, match=r"set crop\.size_px"):
        graph.get_concrete_function(tf.TensorSpec([2, None, None, 3], tf.uint8))


def test_views_of_batches_of_unknown_shape_are_those_of_the_known():
    images, keys = random_images(6, height=10, width=10), example_keys(6)
    specs = tf.TensorSpec([None, None, None, 3], tf.uint8), tf.TensorSpec([None], tf.int64)
    graph = tf.function(
        lambda images, keys: augment.one_view(images, keys, seed=SEED, epoch=EPOCH, config=EVERYTHING, by_taps=True),
        input_signature=specs,
    )
    np.testing.assert_allclose(graph(images, keys), view_of(images, EVERYTHING, keys=keys), atol=1e-5)


@pytest.mark.parametrize(
    ("images", "keys", "message"),
    [
        (np.zeros([2, 8, 8, 3], np.int32), [1, 2], "images of int32: must be uint8"),
        (np.zeros([2, 8, 8, 1], np.uint8), [1, 2], r"shape \(2, 8, 8, 1\): must be \[B, H, W, 3\]"),
        (np.zeros([8, 8, 3], np.uint8), [1], r"shape \(8, 8, 3\): must be"),
        (np.zeros([2, 8, 8, 3], np.uint8), [1], r"and keys \[B\], not \(1,\)"),
        (np.zeros([2, 8, 8, 3], np.uint8), 1, r"keys of int32, shape \(\)"),
        (np.zeros([2, 8, 8, 3], np.uint8), ["a", "b"], "keys of string"),
    ],
)
def test_views_of_what_are_no_images_or_keys_are_refused(images, keys, message):
    with pytest.raises(ValueError, match=message):
        augment.two_views(images, keys, seed=0, epoch=0, config=AugmentConfig())


def test_views_of_numpy_arrays_are_those_of_tensors():
    images, keys = np.random.default_rng(0).integers(0, 256, [2, 8, 6, 3], np.uint8), np.arange(2)
    config = AugmentConfig(jitter_strength=0.0, grayscale_probability=0.0)
    ours = augment.two_views(images, keys, seed=0, epoch=0, config=config)
    expected = augment.two_views(tf.constant(images), tf.constant(keys), seed=0, epoch=0, config=config)
    np.testing.assert_array_equal(ours, expected)


def test_views_float_and_uint8_images_agree():
    images = random_images(4, height=10, width=10)
    as_float = views_of(images.astype(np.float32) / 255, EVERYTHING)
    np.testing.assert_allclose(as_float, views_of(images, EVERYTHING), atol=1e-5)


def test_views_padded_canvas_equals_the_image_without_padding():
    sizes = [(10, 10), (10, 17), (14, 10), (10, 20)]
    keys = example_keys(4)
    canvas = np.full([4, 14, 20, 3], 255, np.uint8)  # white: a view that saw it would be brighter
    alone = []
    for index, (height, width) in enumerate(sizes):
        image = random_images(1, height=height, width=width, seed=index) // 2
        canvas[index, :height, :width] = image[0]
        alone.append(views_of(image, SIMCLR, keys=keys[index : index + 1]))
    padded = views_of(canvas, SIMCLR, keys=keys, sizes=tf.constant(sizes))
    for view in (0, 1):
        expected = np.concatenate([views[view] for views in alone])
        np.testing.assert_allclose(padded[view], expected, atol=2e-5)


# Eager, graph and XLA. Pixels differ by roundings where XLA joins a product and a sum, and by those of exp, cos and
# log; what is drawn and what is moved does not.


@pytest.fixture(scope="module")
def made_three_ways():
    images, keys = random_images(32, height=10, width=10), example_keys(32)

    def make(images, keys, epoch):
        settings = {"seed": SEED, "epoch": epoch}
        bare, whole = (AugmentConfig(crop=CropConfig(size_px=10, **crop), **OFF) for crop in ({}, WHOLE))
        of_view = prng.view_keys(keys, seed=SEED, epoch=epoch, view=0)
        planes = tf.transpose(tf.cast(images, tf.float32), [0, 3, 1, 2])
        exact = {
            "key": of_view,
            "crop's draws": prng.uniform(of_view, count=40, stream=prng.Stream.CROP),
            "quarter turns": geometry.quarter_turns(planes, of_view, probability=0.5),
            "cutout": geometry.cutout(planes, of_view, probability=0.5, share_of_side=0.4),
            "whole image": augment.one_view(images, keys, config=whole, by_taps=True, **settings),
            "whole by matrices": augment.one_view(images, keys, config=whole, by_taps=False, **settings),
        }
        by_taps = augment.one_view(images, keys, config=EVERYTHING, by_taps=True, **settings)
        return exact, (by_taps, augment.one_view(images, keys, config=bare, by_taps=False, **settings))

    inputs = images, keys, tf.constant(EPOCH, tf.int64)
    return make(*inputs), tf.function(make)(*inputs), tf.function(make, jit_compile=True)(*inputs)


@pytest.mark.parametrize("way", [1, 2], ids=["graph", "xla"])
def test_views_draws_and_moved_pixels_are_bit_identical(made_three_ways, way):
    (expected, _), (exact, _) = made_three_ways[0], made_three_ways[way]
    for name, values in expected.items():
        np.testing.assert_array_equal(exact[name], values, err_msg=name)


@pytest.mark.parametrize("way", [1, 2], ids=["graph", "xla"])
def test_views_pixels_agree(made_three_ways, way):
    for view, expected in zip(made_three_ways[way][1], made_three_ways[0][1], strict=True):
        np.testing.assert_allclose(view, expected, atol=1e-5)
