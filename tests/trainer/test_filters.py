import numpy as np
import pytest
from example_files import random_images
from example_views import four_sigma, view_keys, view_of, whole_image_config
from scipy import ndimage

from trainer import prng


def blur_sigmas(count, *, max_px=2.0):
    return 0.1 + (max_px - 0.1) * prng.uniform(view_keys(count), count=2, stream=prng.Stream.BLUR).numpy()[:, 0]


@pytest.mark.parametrize("max_sigma_px", [2.0, 1.2])
def test_blur_impulse_response_has_the_variance_of_its_own_sigma(max_sigma_px):
    impulse = np.zeros([24, 161, 161, 3], np.float32)
    impulse[:, 80, 80] = 1
    view = view_of(impulse, whole_image_config(161, blur_probability=1.0, blur_max_sigma_px=max_sigma_px))
    offsets, sigmas = np.arange(161) - 80, blur_sigmas(24, max_px=max_sigma_px)
    wide = sigmas > 0.7  # a narrower one is a sum over too few pixels to keep its variance
    assert wide.sum() >= 8 and np.unique(sigmas.round(6)).size == 24
    for axis in (1, 2):
        profile = view[..., 0].sum(axis=3 - axis)
        np.testing.assert_allclose(profile.sum(axis=1), 1, atol=1e-5)
        np.testing.assert_allclose((profile @ offsets**2)[wide], sigmas[wide] ** 2, rtol=5e-3)


@pytest.mark.parametrize(("side", "radius"), [(8, 1), (40, 2), (61, 3), (224, 11)])
def test_blur_equals_scipys_with_a_kernel_of_a_tenth_of_the_side(side, radius):
    images = np.random.default_rng(0).random([4, side, side, 3], np.float32)
    view = view_of(images, whole_image_config(side, blur_probability=1.0))
    for ours, image, sigma in zip(view, images, blur_sigmas(4), strict=True):
        expected = ndimage.gaussian_filter(image, float(sigma), mode="mirror", radius=radius, axes=(0, 1))
        np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_blur_of_a_single_pixel_leaves_it():
    images = random_images(4, height=1, width=1)
    view = view_of(images, whole_image_config(1, blur_probability=1.0))
    np.testing.assert_allclose(view, images / 255, atol=1e-6)


def test_blur_is_applied_to_its_share_of_the_views():
    images = np.random.default_rng(0).random([2000, 4, 4, 3], np.float32)
    changed = (view_of(images, whole_image_config(4, blur_probability=0.5)) != images).any(axis=(1, 2, 3))
    # A σ close to 0.1 changes a float32 pixel by nothing.
    visible = blur_sigmas(2000) > 0.3
    assert changed[visible].mean() == pytest.approx(0.5, abs=four_sigma(0.5, visible.sum()))


def test_sobel_shows_the_gradient_of_the_luma():
    images = np.random.default_rng(0).random([3, 9, 9, 3], np.float32)
    view = view_of(images, whole_image_config(9, sobel_probability=1.0))
    for ours, image in zip(view, images @ np.array([0.299, 0.587, 0.114]), strict=True):
        gradient = [ndimage.sobel(image, axis=axis, mode="reflect") for axis in (0, 1)]
        expected = np.minimum(np.hypot(*gradient) / 4, 1)
        np.testing.assert_allclose(ours, np.repeat(expected[..., None], 3, axis=-1), atol=1e-5)


def test_sobel_edge_from_black_to_white_is_white_between_black():
    images = np.zeros([1, 6, 6, 3], np.float32)
    images[:, :, 3:] = 1
    view = view_of(images, whole_image_config(6, sobel_probability=1.0))
    np.testing.assert_allclose(view[0, :, :, 0], np.tile([0, 0, 1, 1, 0, 0], [6, 1]), atol=1e-6)


def test_sobel_is_applied_to_its_share_of_the_views():
    images = np.full([2000, 3, 3, 3], 0.5, np.float32)
    view = view_of(images, whole_image_config(3, sobel_probability=0.3))
    share = (view == 0).all(axis=(1, 2, 3)).mean()
    assert share == pytest.approx(0.3, abs=four_sigma(0.3, 2000))


@pytest.mark.parametrize("max_sigma", [0.2, 0.1])
def test_noise_is_gaussian_with_a_level_for_each_of_its_share_of_the_views(max_sigma):
    images = np.full([2000, 8, 8, 3], 0.5, np.float32)
    config = whole_image_config(8, noise_probability=0.4, noise_max_sigma=max_sigma)
    added = view_of(images, config).reshape(2000, -1) - 0.5
    noisy = added.any(axis=1)
    assert noisy.mean() == pytest.approx(0.4, abs=four_sigma(0.4, 2000))
    levels = max_sigma * prng.uniform(view_keys(2000), count=2, stream=prng.Stream.NOISE).numpy()[noisy, 0]
    # Up to a level of 0.1 the clip at five standard deviations is out of sight.
    seen = (levels > 0.01) & (levels < 0.1)
    normal = added[noisy][seen] / levels[seen, None]
    assert normal.size > 50_000
    assert normal.mean() == pytest.approx(0, abs=4 / normal.size**0.5)
    assert normal.std() == pytest.approx(1, abs=4 / (2 * normal.size) ** 0.5)
    assert (normal**4).mean() == pytest.approx(3, abs=4 * (96 / normal.size) ** 0.5)
    neighbours = (normal[:, :-1] * normal[:, 1:]).mean()
    assert neighbours == pytest.approx(0, abs=4 / normal.size**0.5)


def test_noise_keeps_pixels_in_the_unit_interval():
    view = view_of(random_images(50), whole_image_config(8, noise_probability=1.0))
    assert view.min() == 0 and view.max() == 1
