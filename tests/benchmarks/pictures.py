"""The images that both sides take: the embedded sample, and photographs' stand-ins made of it."""

import io
import itertools
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

PHOTO_PX = (400, 500)  # height and width
SMALL_PX = 32
_SAMPLE = Path(__file__).resolve().parents[2] / "data" / "cifar10_sample" / "train.tar"
_GRAIN = 8.0  # σ of the noise that gives an enlarged image the size of a photograph as JPEG, about 60 KB
_JPEG_QUALITY = 90


def small(count: int) -> np.ndarray:
    """Images of the sample, uint8 [count, 32, 32, 3]; at most 4,000."""
    return np.stack([np.asarray(Image.open(io.BytesIO(png))) for png in _sample_pngs(count)])


def photos(count: int) -> np.ndarray:
    """The sample's images enlarged and grained, uint8 [count, 400, 500, 3]."""
    rng = np.random.default_rng(0)
    return np.stack([_photo(image, rng) for image in small(count)])


def write_pngs(folder: Path, count: int) -> None:
    """The sample's own files of 32 x 32 pixels, about 2 KB each."""
    folder.mkdir(parents=True)
    for number, png in enumerate(_sample_pngs(count)):
        (folder / f"{number:05d}.png").write_bytes(png)


def write_jpegs(folder: Path, count: int) -> None:
    """The `photos` as JPEG."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number, image in enumerate(small(count)):
        Image.fromarray(_photo(image, rng)).save(folder / f"{number:05d}.jpg", quality=_JPEG_QUALITY)


def _sample_pngs(count: int) -> list[bytes]:
    with tarfile.open(_SAMPLE) as archive:
        files = (member for member in archive if member.isfile())
        return [archive.extractfile(member).read() for member in itertools.islice(files, count)]


def _photo(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    height, width = PHOTO_PX
    large = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC), np.float32)
    grain = rng.normal(scale=_GRAIN, size=(height, width, 1))
    return np.clip(large + grain, 0, 255).astype(np.uint8)
