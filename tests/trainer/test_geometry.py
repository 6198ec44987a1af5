import numpy as np
import pytest
import resampling_oracle
import tensorflow as tf
from example_files import random_images
from example_views import EPOCH, OFF, SEED, example_keys, four_sigma, view_keys, view_of, whole_image_config

from trainer import augment, geometry, prng
from trainer.config import AugmentConfig, CropConfig

KERNELS = {"bilinear": resampling_oracle.triangle, "bicubic": resampling_oracle.keys_cubic}


def crops(images, crop, *, by_taps=True):
    settings = {"seed": SEED, "epoch": EPOCH, "config": AugmentConfig(crop=crop, **OFF), "by_taps": by_taps}
    # Eagerly, thousands of images in strips of 2¹⁴ pixels take half a minute.
    in_graph = tf.function(augment.one_view) if len(images) > 1000 else augment.one_view
    return in_graph(tf.constant(images), example_keys(len(images)), **settings).numpy()


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
    return boxes_of(crops(coordinate_images(4000, 16, 16), crop), 16, 16)


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
    width, height, left, top = boxes_of(crops(coordinate_images(8, 8, 16), crop), 8, 16)
    np.testing.assert_allclose(np.abs(width), 8 * 4 / 3, rtol=1e-3)
    np.testing.assert_allclose(height, 8, rtol=1e-3)
    np.testing.assert_allclose(left, (16 - 8 * 4 / 3) / 2, atol=1e-2)
    np.testing.assert_allclose(top, 0, atol=1e-2)


def test_crop_and_flip_leaves_colours_alone():
    images = np.tile(np.float32([0.9, 0.3, 0.1]), [50, 8, 8, 1])
    views = crops(images, CropConfig(size_px=6, min_area=0.08))
    np.testing.assert_allclose(views, images[:, :6, :6], atol=1e-6)


def test_crop_of_no_probability_is_the_middle_square_for_every_view():
    images = random_images(4, height=6, width=10)
    views = crops(images, CropConfig(size_px=6, probability=0.0, min_area=0.08, flip_probability=0.0))
    np.testing.assert_allclose(views, images[:, :, 2:8] / 255, atol=1e-6)


def test_crop_and_flip_are_done_to_their_shares():
    crop = CropConfig(size_px=32, probability=0.3, flip_probability=0.8, min_area=0.08, max_area=0.9)
    width, *_ = boxes_of(crops(coordinate_images(2000, 16, 16), crop), 16, 16)
    assert (width < 0).mean() == pytest.approx(0.8, abs=four_sigma(0.8, 2000))
    cropped = np.abs(np.abs(width) - 16) > 1e-3
    assert cropped.mean() == pytest.approx(0.3, abs=four_sigma(0.3, 2000))


@pytest.mark.parametrize("interpolation", KERNELS)
@pytest.mark.parametrize(("height", "width", "min_area"), [(1, 1, 0.08), (1, 9, 1e-6), (3, 2, 1e-12)])
def test_crop_smaller_than_a_pixel_shows_the_pixel_it_lies_on(height, width, min_area, interpolation):
    images = np.random.default_rng(0).random([200, height, width, 3], np.float32) * 0.8 + 0.1
    crop = CropConfig(size_px=4, min_area=min_area, max_area=max(min_area, 1e-3), interpolation=interpolation)
    views = crops(images, crop)
    assert np.isfinite(views).all()
    low, high = (edge(images, axis=(1, 2), keepdims=True) for edge in (np.min, np.max))
    reach = 0.1 if interpolation == "bicubic" else 1e-5  # which overshoots
    assert (views > low - reach).all() and (views < high + reach).all()


def lines_of(x, start, length, **settings):
    start, length = tf.constant(start, tf.float32), tf.constant(length, tf.float32)
    return geometry.resample(tf.constant(x), start, length, **settings).numpy()


@pytest.mark.parametrize("by_taps", [True, False])
@pytest.mark.parametrize("interpolation", KERNELS)
def test_resample_equals_the_oracle_for_every_interval(interpolation, by_taps):
    intervals = [(0, 16), (2.3, 9.1), (11.4, -9.1), (6.2, 9.8), (3, 1), (15, 1), (0.01, 1), (15.5, 0.4), (16, -16)]
    start, length = np.float32(intervals).T
    identity = np.tile(np.eye(16, dtype=np.float32), [len(intervals), 1, 1])
    for side in (1, 5, 40):
        ours = lines_of(identity, start, length, side=side, interpolation=interpolation, by_taps=by_taps)
        for weights, first, extent in zip(ours, start.tolist(), length.tolist(), strict=True):
            expected = resampling_oracle.matrix(first, extent, lines=16, side=side, kernel=KERNELS[interpolation])
            np.testing.assert_allclose(weights, expected, atol=2e-5)


@pytest.mark.parametrize("interpolation", KERNELS)
@pytest.mark.parametrize(
    ("start", "length", "side"), [(0, 40, 40), (3, 30, 12), (10, 9, 24), (5, 35, 34), (39, 1, 4)]
)
def test_resample_equals_the_antialiased_resize_of_the_cut_out_box(start, length, side, interpolation):
    image = random_images(1, height=40, width=40)
    settings = {"side": side, "interpolation": interpolation, "by_taps": True}
    ours = lines_of(image.reshape(1, 40, 120), [start], [length], **settings).reshape(side, 40, 3)
    theirs = tf.image.resize(image[0, start : start + length], [side, 40], interpolation, antialias=True)
    np.testing.assert_allclose(ours, theirs, atol=2e-3)  # of 255


@pytest.mark.parametrize("by_taps", [True, False])
@pytest.mark.parametrize("interpolation", KERNELS)
def test_crop_and_flip_equal_the_oracle_in_both_directions(interpolation, by_taps):
    images = np.random.default_rng(0).random([12, 30, 40, 3], np.float32)
    crop = CropConfig(size_px=12, min_area=0.08, interpolation=interpolation)
    views = crops(images, crop, by_taps=by_taps)
    keys = view_keys(12)
    boxes = np.stack(geometry.crop_boxes(keys, tf.constant([[30.0, 40.0]] * 12), crop), axis=1).tolist()
    flips = prng.uniform(keys, count=1, stream=prng.Stream.FLIP).numpy()[:, 0] < 0.5
    assert 0 < flips.sum() < 12
    for view, image, (top, left, height, width), flip in zip(views, images, boxes, flips, strict=True):
        settings = {"side": 12, "kernel": KERNELS[interpolation]}
        rows = resampling_oracle.matrix(top, height, lines=30, **settings)
        columns = resampling_oracle.matrix(left, width, lines=40, **settings)
        expected = np.einsum("sh,tw,hwc->stc", rows, columns, image).clip(0, 1)
        np.testing.assert_allclose(view, expected[:, ::-1] if flip else expected, atol=2e-5)


@pytest.mark.parametrize(("strip_px", "made"), [(2 * 12, {(1, 2), (1, 4)}), (2 * 12**2, {(2, 12), (2, 4)})])
@pytest.mark.parametrize("interpolation", KERNELS)
def test_crop_in_strips_and_columns_is_that_of_whole_images(monkeypatch, interpolation, strip_px, made):
    images = random_images(6, height=30, width=40)
    crop = CropConfig(size_px=12, interpolation=interpolation)
    whole = crops(images, crop)
    seen, resample = set(), geometry.resample

    def seeing(x, *args, **settings):
        seen.add((len(x), settings["count"]))
        return resample(x, *args, **settings)

    monkeypatch.setattr(geometry, "resample", seeing)
    monkeypatch.setattr(geometry, "_STRIP_PX", strip_px)
    monkeypatch.setattr(geometry, "_COLUMNS", 4)
    np.testing.assert_allclose(crops(images, crop), whole, atol=1e-6)
    assert seen == made


def test_crop_bicubic_is_sharper_than_bilinear_and_stays_in_the_unit_interval():
    images = random_images(16, height=10, width=10) // 255 * 255  # black and white: bicubic overshoots
    views = {name: crops(images, CropConfig(size_px=24, interpolation=name)) for name in KERNELS}
    assert views["bicubic"].min() == 0 and views["bicubic"].max() <= 1
    assert views["bicubic"].std() > 1.05 * views["bilinear"].std()


# Quarter turns and cutout.


def test_quarter_turns_turn_by_each_angle_alike():
    images = random_images(2000, height=4, width=4) / np.float32(255)
    view = view_of(images, whole_image_config(4, rotate_probability=0.6))
    plain = view_of(images, whole_image_config(4))
    shares = [(view == np.rot90(plain, turns, axes=(1, 2))).all(axis=(1, 2, 3)).mean() for turns in range(4)]
    assert sum(shares) == pytest.approx(1)
    assert shares[0] == pytest.approx(0.4, abs=four_sigma(0.4, 2000))
    for share in shares[1:]:
        assert share == pytest.approx(0.2, abs=four_sigma(0.2, 2000))


@pytest.mark.parametrize(
    ("side", "share", "square"), [(8, 0.5, 4), (5, 0.5, 2), (8, 0.25, 2), (6, 1.0, 6), (1, 0.5, 1)]
)
def test_cutout_covers_one_square_of_its_share_of_the_side_inside_the_view(side, share, square):
    config = whole_image_config(side, cutout_probability=1.0, cutout_side=share)
    view = view_of(np.zeros([200, side, side, 3], np.float32), config)
    assert set(np.unique(view)) <= {0, 0.5}
    for covered in view.any(axis=-1):
        rows, columns = np.flatnonzero(covered.any(axis=1)), np.flatnonzero(covered.any(axis=0))
        assert len(rows) == len(columns) == np.ptp(rows) + 1 == np.ptp(columns) + 1 == square
        assert covered.sum() == square**2


def test_cutout_is_done_to_its_share_with_even_positions():
    view = view_of(np.zeros([2000, 6, 6, 3], np.float32), whole_image_config(6, cutout_probability=0.5))
    cut = view.any(axis=(1, 2, 3))
    assert cut.mean() == pytest.approx(0.5, abs=four_sigma(0.5, 2000))
    for axis in (1, 2):
        first = view[cut].any(axis=(3 - axis, 3)).argmax(axis=1)
        for position in range(4):
            share = (first == position).mean()
            assert share == pytest.approx(0.25, abs=four_sigma(0.25, cut.sum()))
