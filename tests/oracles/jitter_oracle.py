"""Colour jitter of one image, pixel by pixel (arXiv 2002.05709, appendix A), with Python's own HSV."""

import colorsys

import numpy as np


def gray(image):
    return image @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def jitter(image, order, *, brightness, contrast, saturation, hue_shift, additive=False):
    """Applies the operations 0 … 3 (brightness, contrast, saturation, hue) in an order, clipping after each."""
    x = np.float64(image)
    for operation in order:
        if operation == 0:
            x = x + (brightness - 1) if additive else x * brightness
        elif operation == 1:
            mean = gray(x).mean()
            x = contrast * x + (1 - contrast) * mean
        elif operation == 2:
            x = saturation * x + (1 - saturation) * gray(x)[..., None]
        else:
            x = np.array([[_shift_hue(pixel, hue_shift) for pixel in row] for row in x])
        x = np.clip(x, 0, 1)
    return x


def _shift_hue(pixel, shift):
    h, s, v = colorsys.rgb_to_hsv(*pixel)
    return colorsys.hsv_to_rgb((h + shift) % 1, s, v)
