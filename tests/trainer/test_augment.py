import jitter_oracle
import numpy as np
import pytest
import tensorflow as tf
from example_files import random_images
from scipy import ndimage

from trainer import augment, prng
from trainer.config import AugmentConfig, CropConfig

SEED, EPOCH = 3, 7
WHOLE = {"min_area": 1.0, "max_area": 1.0, "max_aspect": 1.0}
OFF = {"jitter_strength": 0.0, "grayscale_probability": 0.0, "blur_probability": 0.0}
EVERYTHING = AugmentConfig(crop=CropConfig(size_px=12), jitter_strength=1.0, blur_probability=0.5)


def example_keys(count):
    return tf.constant(np.random.default_rng(5).integers(0, 2**62, [count]), tf.int64)


def views_of(images, config, *, keys=None, seed=SEED, epoch=EPOCH, sizes=None):
    keys = example_keys(len(images)) if keys is None else keys
    views = augment.two_views(tf.constant(images), keys, seed=seed, epoch=epoch, config=config, sizes=sizes)
    return tuple(view.numpy() for view in views)


def whole_image_config(size_px, **settings):
    return AugmentConfig(crop=CropConfig(size_px=size_px, **WHOLE), **{**OFF, **settings})


# Crop and flip. The pixels of these images say where they are, so a view says which box it shows.


def coordinate_images(count, height, width):
    y, x = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij")
    image = np.stack([x, y, np.zeros_like(x)], axis=-1).astype(np.float32)
    return np.tile(image, [count, 1, 1, 1])


def boxes_of(views, height, width):
    """Signed width, height, left and top of each view's box in pixels, from two of its pixels inside."""
    side = views.shape[1]
    first, last = side * 3 // 8, side * 5 // 8 - 1
    x = views[:, side // 2, [first, last], 0].astype(np.float64) * width
    y = views[:, [first, last], side // 2, 1].astype(np.float64) * height
    box_width, box_height = ((v[:, 1] - v[:, 0]) / (last - first) * side for v in (x, y))
    left = x.mean(axis=1) - np.abs(box_width) / 2
    return box_width, box_height, left, y.mean(axis=1) - box_height / 2


@pytest.fixture(scope="module")
def imagenet_boxes():
    crop = CropConfig(size_px=32, min_area=0.08)
    images = coordinate_images(4000, 16, 16)
    views = augment.crop_and_flip(images, example_keys(4000), seed=SEED, epoch=EPOCH, config=crop)
    return boxes_of(views.numpy(), 16, 16)


def test_crop_area_and_aspect_stay_in_their_ranges_and_reach_both_ends(imagenet_boxes):
    width, height, _, _ = imagenet_boxes
    area, aspect = np.abs(width) * height / 256, np.abs(width) / height
    assert 0.08 - 1e-4 < area.min() < 0.09 and 0.97 < area.max() < 1 + 1e-4
    assert 3 / 4 - 1e-3 < aspect.min() < 0.76 and 1.32 < aspect.max() < 4 / 3 + 1e-3


def test_crop_area_averages_that_of_the_first_fitting_of_ten_boxes(imagenet_boxes):
    width, height, _, _ = imagenet_boxes
    # 0.480 is torchvision's; the standard error at 4000 boxes is 0.004.
    assert (np.abs(width) * height / 256).mean() == pytest.approx(0.480, abs=0.016)


def test_crop_aspect_is_log_symmetric(imagenet_boxes):
    width, height, _, _ = imagenet_boxes
    log_aspect = np.log(np.abs(width) / height)
    assert log_aspect.mean() == pytest.approx(0, abs=4 * log_aspect.std() / 4000**0.5)


def test_crop_box_lies_in_the_image_with_even_positions(imagenet_boxes):
    width, height, left, top = imagenet_boxes
    assert min(left.min(), top.min()) > -1e-3
    assert max((left + np.abs(width)).max(), (top + height).max()) < 16 + 1e-3
    for start, length in ((left, np.abs(width)), (top, height)):
        room = 16 - length
        position = start[room > 1] / room[room > 1]
        assert position.mean() == pytest.approx(0.5, abs=0.02)
        assert position.std() == pytest.approx(12**-0.5, abs=0.015)


def test_flip_mirrors_half_of_the_views(imagenet_boxes):
    width, *_ = imagenet_boxes
    assert (width < 0).mean() == pytest.approx(0.5, abs=4 * 0.5 / 4000**0.5)


def test_crop_that_never_fits_shows_the_largest_centred_box():
    crop = CropConfig(size_px=32, min_area=1.0)
    views = augment.crop_and_flip(coordinate_images(8, 8, 16), example_keys(8), seed=0, epoch=0, config=crop)
    width, height, left, top = boxes_of(views.numpy(), 8, 16)
    np.testing.assert_allclose(np.abs(width), 8 * 4 / 3, rtol=1e-3)
    np.testing.assert_allclose(height, 8, rtol=1e-3)
    np.testing.assert_allclose(left, (16 - 8 * 4 / 3) / 2, atol=1e-2)
    np.testing.assert_allclose(top, 0, atol=1e-2)


def test_crop_and_flip_leaves_colours_alone():
    images = np.tile(np.float32([0.9, 0.3, 0.1]), [50, 8, 8, 1])
    crop = CropConfig(size_px=6, min_area=0.08)
    views = augment.crop_and_flip(images, example_keys(50), seed=0, epoch=0, config=crop)
    np.testing.assert_allclose(views, images[:, :6, :6], atol=1e-6)


@pytest.mark.parametrize(
    ("start", "length", "side"), [(0, 40, 40), (3, 30, 12), (10, 9, 24), (5, 35, 34), (39, 1, 4)]
)
def test_resampling_matrix_equals_the_antialiased_resize_of_the_cut_out_box(start, length, side):
    image = random_images(1, height=40, width=40)[0].astype(np.float32)
    matrix = augment.resampling_matrix(
        tf.constant([float(start)]), tf.constant([float(length)]), canvas=40, side=side
    )
    ours = np.einsum("st,twc->swc", matrix[0].numpy(), image)
    theirs = tf.image.resize(image[start : start + length], [side, 40], antialias=True)
    np.testing.assert_allclose(ours, theirs, atol=2e-3)  # of 255


def test_resampling_matrix_negative_length_is_the_mirrored_matrix():
    forward = augment.resampling_matrix(tf.constant([2.3]), tf.constant([9.1]), canvas=16, side=7)
    backward = augment.resampling_matrix(tf.constant([11.4]), tf.constant([-9.1]), canvas=16, side=7)
    np.testing.assert_allclose(backward, forward[:, ::-1], atol=1e-6)


def test_resampling_matrix_rows_sum_to_one_and_see_the_interval_only():
    start, length = tf.constant([0.7, 6.2, 15.9]), tf.constant([3.3, 9.8, 0.1])
    matrix = augment.resampling_matrix(start, length, canvas=16, side=5).numpy()
    np.testing.assert_allclose(matrix.sum(axis=2), 1, atol=1e-6)
    pixels = np.arange(16)
    for row, low, high in zip(matrix, start.numpy(), (start + length).numpy(), strict=True):
        outside = (pixels + 1 <= low) | (pixels >= high)
        assert (row[:, outside] == 0).all()


# Colour.


def test_views_everything_off_are_the_image_or_its_mirror():
    images = random_images(16)
    (view, _), expected = views_of(images, whole_image_config(8)), images / np.float32(255)
    flipped = np.array([not np.array_equal(v, image) for v, image in zip(view, expected, strict=True)])
    assert 0 < flipped.sum() < 16
    np.testing.assert_allclose(np.where(flipped[:, None, None, None], view[:, :, ::-1], view), expected, atol=1e-6)


def test_views_strength_zero_leave_colours_at_probability_one():
    images = random_images(8)
    off = views_of(images, whole_image_config(8))
    jittered = views_of(images, whole_image_config(8, jitter_probability=1.0))
    np.testing.assert_array_equal(jittered, off)


@pytest.mark.parametrize("strength", [0.5, 1.25])
def test_color_jitter_equals_the_oracle_in_every_order(strength):
    images, keys = random_images(120, height=4, width=4), example_keys(120)
    config = whole_image_config(4, jitter_strength=strength, jitter_probability=1.0)
    view, _ = views_of(images, config, keys=keys)
    plain, _ = views_of(images, whole_image_config(4), keys=keys)
    draws_of = prng.view_keys(keys, seed=SEED, epoch=EPOCH, view=0)
    draws = prng.uniform(draws_of, count=5, stream=augment._STREAM_JITTER).numpy()
    orders = np.argsort(prng.uniform(draws_of, count=4, stream=augment._STREAM_ORDER), axis=1)
    assert len({tuple(order) for order in orders}) >= 23  # of 24
    for image, ours, (brightness, contrast, saturation, hue, _), order in zip(
        plain, view, draws, orders, strict=True
    ):
        factors = 1 + 0.8 * strength * (2 * np.float64([brightness, contrast, saturation]) - 1)
        expected = jitter_oracle.jitter(
            image,
            order,
            brightness=factors[0],
            contrast=factors[1],
            saturation=factors[2],
            hue_shift=0.2 * strength * (2 * float(hue) - 1),
        )
        np.testing.assert_allclose(ours, expected, atol=2e-5)


def test_color_jitter_brightness_of_gray_images_is_uniform_in_its_range_for_four_of_five():
    # Contrast, saturation and hue cannot change an even gray: what is seen is brightness alone.
    images = np.full([2000, 2, 2, 3], 0.4, np.float32)
    view, _ = views_of(images, whole_image_config(2, jitter_strength=1.0))
    factor = view[:, 0, 0, 0] / 0.4
    jittered = np.abs(factor - 1) > 1e-6
    assert jittered.mean() == pytest.approx(0.8, abs=4 * 0.4 / 2000**0.5)
    assert 0.2 <= factor.min() < 0.22 and 1.78 < factor.max() <= 1.8 + 1e-6
    assert factor[jittered].std() == pytest.approx(1.6 / 12**0.5, rel=0.05)


def test_views_strongest_jitter_stays_in_the_unit_interval():
    images = random_images(64)
    for view in views_of(images, EVERYTHING.model_copy(update={"jitter_strength": 1.25})):
        assert view.min() >= 0 and view.max() <= 1 + 1e-6 and np.isfinite(view).all()


def test_grayscale_turns_a_fifth_of_the_views_into_their_luma():
    images = np.tile(np.float32([0.9, 0.3, 0.1]), [2000, 2, 2, 1])
    view, _ = views_of(images, whole_image_config(2, grayscale_probability=0.2))
    gray = np.ptp(view, axis=-1).max(axis=(1, 2)) < 1e-6
    assert gray.mean() == pytest.approx(0.2, abs=4 * 0.4 / 2000**0.5)
    np.testing.assert_allclose(view[gray], 0.299 * 0.9 + 0.587 * 0.3 + 0.114 * 0.1, atol=1e-6)
    np.testing.assert_allclose(view[~gray], images[~gray], atol=1e-6)


# Blur.


def blur_sigmas(keys):
    draws = prng.uniform(prng.view_keys(keys, seed=SEED, epoch=EPOCH, view=0), count=2, stream=augment._STREAM_BLUR)
    return 0.1 + 1.9 * draws.numpy()[:, 0]


def test_blur_impulse_response_has_the_variance_of_its_own_sigma():
    impulse = np.zeros([24, 161, 161, 3], np.float32)
    impulse[:, 80, 80] = 1
    view, _ = views_of(impulse, whole_image_config(161, blur_probability=1.0))
    offsets = np.arange(161) - 80
    sigmas = blur_sigmas(example_keys(24))
    wide = sigmas > 0.7  # a narrower one is a sum over too few pixels to keep its variance
    assert wide.sum() > 10 and np.unique(sigmas.round(6)).size == 24
    for axis in (1, 2):
        profile = view[..., 0].sum(axis=3 - axis)
        np.testing.assert_allclose(profile.sum(axis=1), 1, atol=1e-5)
        variance = profile @ offsets**2
        np.testing.assert_allclose(variance[wide], sigmas[wide] ** 2, rtol=5e-3)


@pytest.mark.parametrize(("side", "radius"), [(8, 1), (60, 3), (161, 8)])
def test_blur_equals_scipys_with_a_kernel_of_a_tenth_of_the_side(side, radius):
    images = np.random.default_rng(0).random([6, side, side, 3], np.float32)
    view, _ = views_of(images, whole_image_config(side, blur_probability=1.0))
    plain, _ = views_of(images, whole_image_config(side))
    for ours, image, sigma in zip(view, plain, blur_sigmas(example_keys(6)), strict=True):
        expected = ndimage.gaussian_filter(image, float(sigma), mode="mirror", radius=radius, axes=(0, 1))
        np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_blur_is_applied_to_its_share_of_the_views():
    images = np.random.default_rng(0).random([1000, 4, 4, 3], np.float32)
    plain, _ = views_of(images, whole_image_config(4))
    view, _ = views_of(images, whole_image_config(4, blur_probability=0.5))
    # A σ close to 0.1 changes a float32 pixel by nothing: 5% of the σ are under 0.19.
    assert (view != plain).any(axis=(1, 2, 3)).mean() == pytest.approx(0.5, abs=0.1)


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
    base, other = views_of(images, EVERYTHING, keys=example_keys(6)), views_of(images, EVERYTHING, **change)
    for view, changed in zip(base, other, strict=True):
        assert (np.abs(view - changed).max(axis=(1, 2, 3)) > 0.05).all()


def test_views_same_inputs_give_the_same_bits():
    images = random_images(6, height=10, width=10)
    np.testing.assert_array_equal(views_of(images, EVERYTHING), views_of(images, EVERYTHING))


def test_views_first_and_second_are_different_crops():
    view_a, view_b = views_of(random_images(6, height=10, width=10), EVERYTHING)
    assert (np.abs(view_a - view_b).max(axis=(1, 2, 3)) > 0.05).all()


def test_views_eager_graph_and_xla_agree():
    images, keys = random_images(32, height=10, width=10), example_keys(32)

    def make(images, keys, epoch):
        return augment.two_views(images, keys, seed=SEED, epoch=epoch, config=EVERYTHING)

    epoch = tf.constant(EPOCH, tf.int64)
    eager = make(images, keys, epoch)
    for compiled in (tf.function(make), tf.function(make, jit_compile=True)):
        for view, expected in zip(compiled(images, keys, epoch), eager, strict=True):
            np.testing.assert_allclose(view, expected, atol=1e-4)


def test_views_float_and_uint8_images_agree():
    images = random_images(4, height=10, width=10)
    as_float = views_of(images.astype(np.float32) / 255, EVERYTHING)
    np.testing.assert_array_equal(as_float, views_of(images, EVERYTHING))


def test_views_padded_canvas_equals_the_image_without_padding():
    sizes = [(10, 10), (10, 17), (14, 10), (10, 20)]
    keys = example_keys(4)
    canvas = np.full([4, 14, 20, 3], 255, np.uint8)  # white: a view that saw it would be brighter
    alone = []
    for index, (height, width) in enumerate(sizes):
        image = random_images(1, height=height, width=width, seed=index) // 2
        canvas[index, :height, :width] = image[0]
        alone.append(views_of(image, EVERYTHING, keys=keys[index : index + 1]))
    padded = views_of(canvas, EVERYTHING, keys=keys, sizes=tf.constant(sizes))
    for view in (0, 1):
        expected = np.concatenate([views[view] for views in alone])
        np.testing.assert_allclose(padded[view], expected, atol=2e-5)
