"""What anybody sees of an image: its size, brightness and colour."""

import io
from collections.abc import Iterable

import numpy as np
from PIL import Image

# Means over a photograph are those of its small copy; JPEG decodes to it at an eighth of the cost.
_SIDE_PX = 64
STATISTICS = ("width", "height", "brightness", "contrast", "saturation", "red", "green", "blue")


def statistics(images: Iterable[bytes]) -> dict[str, np.ndarray]:
    """Numbers of each image.

    Args:
      images: n encoded images.

    Returns:
      By the names of STATISTICS, [n] float64: sides in pixels; of the channels in [0, 1] the mean luma, its standard
      deviation, the mean of the largest less the smallest channel, and the mean of each channel as a share of all
      three, so that a darker image is not also a less red one.
    """
    rows = [_row(encoded) for encoded in images]
    return dict(zip(STATISTICS, np.array(rows, np.float64).reshape(-1, len(STATISTICS)).T, strict=True))


def _row(encoded: bytes) -> tuple[float, ...]:
    with Image.open(io.BytesIO(encoded)) as image:
        width, height = image.size
        pixels = np.asarray(_small(image, _SIDE_PX), np.float64) / 255.0
    luma = pixels @ [0.299, 0.587, 0.114]  # ITU-R BT.601
    channels = pixels.mean(axis=(0, 1))
    shares = channels / max(channels.sum(), 1e-12) if channels.any() else np.full(3, 1 / 3)
    saturation = (pixels.max(axis=2) - pixels.min(axis=2)).mean()
    return (width, height, luma.mean(), luma.std(), saturation, *shares)


def thumbnail(encoded: bytes, *, side_px: int) -> bytes:
    """An image as a PNG whose long side is at most `side_px`."""
    written = io.BytesIO()
    with Image.open(io.BytesIO(encoded)) as image:
        _small(image, side_px).save(written, "PNG")
    return written.getvalue()


def _small(image: Image.Image, side_px: int) -> Image.Image:
    image.draft("RGB", (side_px, side_px))
    small = image.convert("RGB")
    small.thumbnail((side_px, side_px), Image.Resampling.BOX)
    return small
