"""The geometry of h and z, and warnings in words when it is a bad sign."""

import math
from dataclasses import dataclass

import numpy as np

from trainer.history import Metrics

_UNIFORMITY_T = 2.0  # arXiv 2005.10242, section 4
_KNN_K, _KNN_TEMPERATURE = 20, 0.07
_COLLAPSED_RANK = 1.5  # effective dimensions of h
_COLLAPSED_SPREAD = 0.01  # of z, where 1 is as wide as the sphere
_STUCK_TOLERANCE = 0.01  # of log(2N−1)


@dataclass(frozen=True)
class Look:
    """Two views of n images under the present network.

    Attributes:
        h: [2n, D], of the first views, then of the second.
        z: [2n, d], in the same order.
        label: [n] int64; negative where an image has none.
    """

    h: np.ndarray
    z: np.ndarray
    label: np.ndarray


def alignment(z: np.ndarray) -> float:
    """Mean squared distance of the two views of an image on the unit sphere (arXiv 2005.10242, section 4).

    Args:
        z: [2n, d], as in `Look`.

    Returns:
        0, all pairs equal, to 4.
    """
    z_a, z_b = np.split(_unit(z), 2)
    return float(np.mean(np.sum((z_a - z_b) ** 2, axis=1)))


def uniformity(z: np.ndarray) -> float:
    """log of the mean of exp(−2·‖x − y‖²) over pairs of different images (arXiv 2005.10242, section 4).

    Args:
        z: [2n, d], n ≥ 2, as in `Look`; pairs are taken among the first views.

    Returns:
        0, all equal, down to −8; about −4 where d is large and directions are uniform.
    """
    first = _unit(z)[: len(z) // 2]
    squares = 2.0 - 2.0 * (first @ first.T)[np.triu_indices(len(first), k=1)]
    return float(np.log(np.mean(np.exp(-_UNIFORMITY_T * squares))))


def effective_rank(h: np.ndarray) -> float:
    """exp of the entropy of the singular values' shares (Roy and Vetterli, EUSIPCO 2007).

    Args:
        h: [n, D].

    Returns:
        1, all rows multiples of one vector, up to min(n, D), all directions equally strong; 1 for zeros, NaN where
        h is not finite.
    """
    if not np.isfinite(h).all():
        return math.nan  # a singular value decomposition would raise, and end the training
    values = np.linalg.svd(h.astype(np.float64), compute_uv=False)
    shares = values[values > 0] / max(values.sum(), np.finfo(np.float64).tiny)
    return float(np.exp(-np.sum(shares * np.log(shares))))


def spread(z: np.ndarray) -> float:
    """Root mean square distance of z on the unit sphere to their mean: 0, all equal, to 1, mean zero. [m, d]."""
    z = _unit(z)
    return float(np.sqrt(np.mean(np.sum((z - z.mean(axis=0)) ** 2, axis=1))))


def similarities(z: np.ndarray) -> tuple[float, float]:
    """Means over the rows of the cosine with the positive, and with the most similar of the 2n−2 negatives.

    Args:
        z: [2n, d], n ≥ 2, as in `Look`.
    """
    z = _unit(z)
    cosines, rows = z @ z.T, np.arange(len(z))
    positives = (rows + len(z) // 2) % len(z)
    positive = cosines[rows, positives].mean()
    cosines[rows, rows] = cosines[rows, positives] = -np.inf
    return float(positive), float(cosines.max(axis=1).mean())


def knn_accuracy(h: np.ndarray, label: np.ndarray) -> Metrics:
    """How often the votes of its nearest others, exp(cosine/τ), name an image's class (arXiv 1805.01978).

    Args:
        h: [n, D], n ≥ 2.
        label: [n] int64 ≥ 0.

    Returns:
        `knn_accuracy` in [0, 1], and beside it `knn_k` and `knn_temperature`, without which it cannot be compared.
    """
    h = _unit(h)
    cosines = h @ h.T
    np.fill_diagonal(cosines, -np.inf)
    k = min(_KNN_K, len(h) - 1)
    nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    weights = np.exp((np.take_along_axis(cosines, nearest, axis=1) - 1.0) / _KNN_TEMPERATURE)
    votes = np.zeros([len(h), label.max() + 1])
    np.add.at(votes, (np.arange(len(h))[:, None], label[nearest]), weights)
    accuracy = float(np.mean(votes.argmax(axis=1) == label))
    return {"knn_accuracy": accuracy, "knn_k": float(k), "knn_temperature": _KNN_TEMPERATURE}


def measure(look: Look) -> Metrics:
    """All of the above; h of the first views; nearest neighbours where every image has a label."""
    first = look.h[: len(look.label)]
    positive, negative = similarities(look.z)
    metrics = {
        "alignment": alignment(look.z),
        "uniformity": uniformity(look.z),
        "spread": spread(look.z),
        "positive_similarity": positive,
        "hardest_negative_similarity": negative,
        "effective_rank": effective_rank(first),
    }
    return metrics | (knn_accuracy(first, look.label) if look.label.min() >= 0 else {})


def collapse_warning(metrics: Metrics) -> str | None:
    """In words, that the representation has collapsed, given what `measure` returned; None if it has not."""
    signs = []
    if not metrics["effective_rank"] >= _COLLAPSED_RANK:
        signs.append(f"h has an effective rank of {metrics['effective_rank']:.2f}")
    if not metrics["spread"] >= _COLLAPSED_SPREAD:
        signs.append(f"z of different images are {metrics['spread']:.4f} from their mean, of 1 at most")
    if not signs:
        return None
    return (
        f"the representation has collapsed: {' and '.join(signs)}. "
        "All images look alike to the network; lower the learning rate or the temperature, or lengthen the warm-up"
    )


def stuck_warning(loss: float, *, n_candidates: int) -> str | None:
    """In words, that the loss is that of guessing; None if it is not within 1% of it.

    Args:
        loss: NT-Xent.
        n_candidates: rows among which the positive is to be found: 2N−1, and those of a queue.
    """
    guessing = math.log(n_candidates)
    if abs(loss - guessing) > _STUCK_TOLERANCE * guessing:
        return None
    return (
        f"the loss is {loss:.3f} and log({n_candidates}) = {guessing:.3f} is that of guessing: the network learns "
        "nothing. Raise the learning rate, or look whether the two views have anything in common"
    )


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
