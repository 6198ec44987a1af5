"""AutoAugment's ops with Pillow, which the policy was learned with (arXiv 1805.09501, table 6)."""

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

_GRAY = (128, 128, 128)
_ENHANCERS = {
    "color": ImageEnhance.Color,
    "contrast": ImageEnhance.Contrast,
    "sharpness": ImageEnhance.Sharpness,
}


def apply(image, name, magnitude, sign):
    """One op of magnitude 0 … 9 on an [S, S, 3] uint8 image; rotation and shear in the direction of the sign."""
    share = (magnitude or 0) / 9
    pillow = Image.fromarray(image)
    if name == "posterize":
        pillow = ImageOps.posterize(pillow, round(8 - 4 * share))
    elif name == "solarize":
        pillow = ImageOps.solarize(pillow, 256 - 256 * share)
    elif name in ("autocontrast", "equalize", "invert"):
        pillow = getattr(ImageOps, name)(pillow)
    elif name in _ENHANCERS:
        pillow = _ENHANCERS[name](pillow).enhance(0.1 + 1.8 * share)
    elif name == "rotate":
        pillow = pillow.rotate(sign * 30 * share, fillcolor=_GRAY)
    elif name == "shear_x":
        matrix = (1, sign * 0.3 * share, 0, 0, 1, 0)
        pillow = pillow.transform(pillow.size, Image.Transform.AFFINE, matrix, fillcolor=_GRAY)
    return np.asarray(pillow)
