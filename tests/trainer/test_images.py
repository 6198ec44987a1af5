import io

import numpy as np
import pytest
import tensorflow as tf
from example_files import random_images
from PIL import Image

from trainer import images


def encoded(image, file_format="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, file_format)
    return buffer.getvalue()


def canonical(*encoded_images, short_side_px):
    return list(images.canonical_png(tf.constant(encoded_images), short_side_px=tf.constant(short_side_px)).numpy())


def pixels(png):
    return np.array(Image.open(io.BytesIO(png)))


def smooth_image(height, width):
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 9), np.cos(y / 7), np.sin((x + y) / 11)]
    return np.round(127.5 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (32, 32, (32, 32)),
        (64, 48, (43, 32)),  # 64 · 32/48 = 42.7
        (37, 74, (32, 64)),
        (50, 201, (32, 64)),  # wider than 1:2
        (201, 50, (64, 32)),
        (7, 5, (45, 32)),  # enlarged: 7 · 32/5 = 44.8
        (1, 1, (32, 32)),
    ],
)
def test_canonical_png_sides_keep_their_proportion_up_to_one_to_two(height, width, expected):
    (png,) = canonical(encoded(random_images(1, height=height, width=width)[0]), short_side_px=32)
    assert pixels(png).shape == (*expected, 3)
    assert tuple(images.png_size(tf.constant(png)).numpy()) == expected


def test_canonical_png_panorama_keeps_its_middle():
    image = np.zeros([10, 100, 3], np.uint8)
    image[:, 40:60] = 200
    (png,) = canonical(encoded(image), short_side_px=10)
    assert pixels(png).shape == (10, 20, 3) and (pixels(png) == 200).all()


def test_canonical_png_image_of_the_right_size_keeps_every_pixel():
    image = random_images(1, height=16, width=23)[0]
    (png,) = canonical(encoded(image), short_side_px=16)
    np.testing.assert_array_equal(pixels(png), image)


@pytest.mark.parametrize(("height", "width"), [(61, 45), (33, 90), (16, 16), (9, 11)])
def test_canonical_png_twice_equals_once(height, width):
    once = canonical(encoded(random_images(1, height=height, width=width)[0]), short_side_px=16)
    assert canonical(*once, short_side_px=16) == once


def test_canonical_png_repeats_and_batches_give_the_same_bytes():
    sources = [encoded(random_images(1, height=20 + n, width=31, seed=n)[0]) for n in range(3)]
    together = canonical(*sources, short_side_px=12)
    assert together == [canonical(source, short_side_px=12)[0] for source in sources]


@pytest.mark.parametrize(("file_format", "tolerance"), [("PNG", 1), ("BMP", 1), ("GIF", 1), ("JPEG", 4)])
def test_canonical_png_every_format_gives_the_resized_image(file_format, tolerance):
    source = encoded(smooth_image(60, 90), file_format)
    decoded = Image.open(io.BytesIO(source)).convert("RGB")
    expected = np.array(decoded.resize((48, 32), Image.Resampling.BILINEAR), np.int32)
    (png,) = canonical(source, short_side_px=32)
    difference = np.abs(pixels(png).astype(np.int32) - expected)
    assert difference.max() <= tolerance


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "LA", "1", "I;16"])
def test_canonical_png_every_png_mode_becomes_rgb(mode):
    if mode == "I;16":
        image = Image.fromarray(np.full([9, 9], 0x8000, np.uint16))
    else:
        image = Image.fromarray(smooth_image(9, 9)).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    (png,) = canonical(buffer.getvalue(), short_side_px=9)
    assert Image.open(io.BytesIO(png)).mode == "RGB"
    if mode == "L":
        np.testing.assert_array_equal(pixels(png), np.repeat(np.array(image)[..., None], 3, axis=2))


def test_canonical_png_bytes_that_are_no_image_are_refused():
    with pytest.raises(tf.errors.InvalidArgumentError):
        canonical(b"not an image", short_side_px=8)


def test_evaluation_view_small_image_of_the_right_size_is_the_identity():
    image = random_images(1, height=32, width=32)[0]
    # The unknown shape of a pipeline, where the resize is really computed.
    view = tf.function(
        lambda image: images.evaluation_view(image, size_px=32),
        input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)],
    )
    np.testing.assert_allclose(view(image), image / np.float32(255), atol=1e-6)
    np.testing.assert_allclose(images.evaluation_view(tf.constant(image), size_px=32), image / 255, atol=1e-6)


def test_evaluation_view_small_wide_image_is_its_middle_square():
    image = random_images(1, height=16, width=30)[0]
    view = images.evaluation_view(tf.constant(image), size_px=16)
    np.testing.assert_allclose(view, image[:, 7:23] / 255, atol=1e-6)


@pytest.mark.parametrize(("height", "width", "border"), [(80, 80, (5, 5)), (80, 100, (5, 15))])
def test_evaluation_view_over_32_px_keeps_seven_eighths_of_the_short_side(height, width, border):
    image = np.zeros([height, width, 3], np.uint8)
    image[border[0] : height - border[0], border[1] : width - border[1]] = 250  # 70 = 0.875 · 80
    view = images.evaluation_view(tf.constant(image), size_px=40).numpy()
    assert view.shape == (40, 40, 3)
    np.testing.assert_allclose(view, 250 / 255, atol=1e-6)
    image[border[0], :] = 0
    assert images.evaluation_view(tf.constant(image), size_px=40).numpy().min() < 0.9


def test_evaluation_view_equals_the_antialiased_resize_of_the_crop():
    image = smooth_image(100, 100)
    view = images.evaluation_view(tf.constant(image), size_px=50)
    crop = Image.fromarray(image[6:94, 6:94])  # round(87.5) = 88, to even
    expected = np.array(crop.resize((50, 50), Image.Resampling.BILINEAR), np.float32) / 255
    np.testing.assert_allclose(view, expected, atol=1.5 / 255)


def test_png_size_reads_height_and_width_beyond_one_byte():
    png = encoded(np.zeros([3, 70_000, 3], np.uint8))
    assert tuple(images.png_size(tf.constant(png)).numpy()) == (3, 70_000)
