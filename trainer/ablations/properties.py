"""Images of which is known what was done to them, for asking whether a representation still tells it."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import tensorflow as tf

from trainer import data, sources, views
from trainer.config import AugmentConfig, CropConfig

Change = Literal["gray", "rotation", "noise", "sobel"]

# arXiv 2002.05709, table 3: chance is 80% for gray, since one image in five is, 25% for rotation, 50% for the others.
N_CLASSES: dict[Change, int] = {"gray": 2, "rotation": 4, "noise": 2, "sobel": 2}
_ONE_IN = {"gray": 5, "noise": 2, "sobel": 2}
_SWITCH = {"gray": "grayscale_probability", "noise": "noise_probability", "sobel": "sobel_probability"}
_UNTOUCHED = AugmentConfig(
    crop=CropConfig(probability=0.0, flip_probability=0.0), jitter_strength=0.0, grayscale_probability=0.0
)


def changed_images(
    files: sources.ExampleFiles, change: Change, *, size_px: int, seed: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """Images of which some are altered, and which.

    Args:
        files: the images; their own labels are not looked at.
        change: grayscale, a turn by 0, 90, 180 or 270 degrees, Gaussian noise, or edges alone.
        size_px: S, the side of the images.
        seed: of what is drawn, such as noise.

    Returns:
        Batches of images, [B, S, S, 3] float32 in [0, 1] each, and what was done, [n] int64: quarters of a turn,
        or 1 where the image is altered.
    """
    batches, labels = [], []
    for batch, position in _numbered(data.evaluation_batches(files, size_px=size_px)):
        if change == "rotation":
            label = position % N_CLASSES[change]
            images = np.stack([np.rot90(image, turn) for image, turn in zip(batch["image"], label, strict=True)])
        else:
            label = (position % _ONE_IN[change] == 0).astype(np.int64)
            images = np.where(
                label[:, None, None, None], _apply(change, batch["image"], position, seed=seed), batch["image"]
            )
        batches.append(images)
        labels.append(label)
    return batches, np.concatenate(labels)


def _numbered(batches: tf.data.Dataset) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
    first = 0
    for batch in batches.as_numpy_iterator():
        count = len(batch["image"])
        yield batch, np.arange(first, first + count)
        first += count


def _apply(change: Change, images: np.ndarray, position: np.ndarray, *, seed: int) -> np.ndarray:
    config = _UNTOUCHED.model_copy(update={_SWITCH[change]: 1.0})
    count, size_px = images.shape[:2]
    batch = {
        "image": tf.constant(images),
        "key": tf.constant(position, tf.int64),
        "epoch": tf.zeros([count], tf.int64),
        "size": tf.fill([count, 2], size_px),
    }
    return views.single_maker(config, size_px=size_px, seed=seed)(batch).numpy()
