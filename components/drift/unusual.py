"""Which new images are least like any of the window's."""

import dataclasses

import numpy as np

from components.drift.two_sample import squared_distances

_NEIGHBOURS = 5


@dataclasses.dataclass(frozen=True)
class Unusual:
    """A new image and how far it lies from the window.

    Attributes:
      index: of the image in its sample.
      times: its mean distance to the nearest images of the window, in medians of what these have among themselves.
      share: of the window's images that lie as far from their own nearest or farther, in [0, 1].
    """

    index: int
    times: float
    share: float


def most_unusual(new: np.ndarray, window: np.ndarray, *, count: int) -> list[Unusual]:
    """The images farthest from their five nearest of the window, the farthest first.

    Args:
      new: [n, D] float.
      window: [m, D] float, m ≥ 2.
      count: how many, at most.

    Raises:
      ValueError: the window has fewer than two images.
    """
    if len(window) < 2:
        raise ValueError(f"Images are unusual beside two others at least; the window has {len(window)}.")
    nearest = min(_NEIGHBOURS, len(window) - 1)
    distances = np.sqrt(squared_distances(new, window))
    own = np.sqrt(squared_distances(window, window))
    np.fill_diagonal(own, np.inf)
    far, usual = (np.sort(rows, axis=1)[:, :nearest].mean(axis=1) for rows in (distances, own))
    unit = max(float(np.median(usual)), 1e-12)
    order = np.argsort(-far, kind="stable")[:count]
    return [Unusual(int(i), float(far[i] / unit), float(np.mean(usual >= far[i]))) for i in order]


def standardised(new: np.ndarray, window: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both samples, [n, D] and [m, D], in standard deviations of the window's columns; constant ones become 0."""
    mean, deviation = window.mean(axis=0), window.std(axis=0)
    scale = np.where(deviation > 0, deviation, np.inf)
    return (new - mean) / scale, (window - mean) / scale
