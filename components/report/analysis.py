"""The arithmetic of the report: intervals, comparisons, neighbours, the map, the confusion matrix."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from components.report.content import ClassAccuracy, Embeddings, Row, Run

# More points make a map neither clearer nor, on two cores, quick enough.
MAP_POINTS = 1000
# t-SNE needs more points than its perplexity; below this a plain projection says as much.
MIN_TSNE_POINTS = 10
# The default of van der Maaten and Hinton (2008), who recommend 5 to 50.
PERPLEXITY = 30
# t-SNE's usual first step: distances in this many principal components.
TSNE_INPUT_DIMENSIONS = 50
MAX_CLASSES = 30
OTHER = "other classes"


def wilson_interval(proportion: float, n: int) -> tuple[float, float]:
    """The 95% Wilson score interval of a proportion.

    Args:
      proportion: share of successes, 0 to 1.
      n: number of trials, at least 1.

    Returns:
      Lower and upper bound, 0 to 1. Source: Wilson (1927).
    """
    interval = stats.binomtest(round(proportion * n), n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two arms on the same labels: the difference of top-1 accuracies with a 95% interval."""

    left: Row
    right: Row
    difference: float
    low: float
    high: float

    @property
    def is_certain(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0


def compare(left: Row, right: Row) -> Comparison:
    """Compares two rows of the same fraction, by Newcombe's hybrid score interval.

    It treats the two test sets as independent, though they are one: the interval is rather too wide than too
    narrow. Source: Newcombe (1998), Statistics in Medicine 17, method 10.
    """
    left_low, left_high = wilson_interval(left.top1, left.n_test)
    right_low, right_high = wilson_interval(right.top1, right.n_test)
    difference = left.top1 - right.top1
    return Comparison(
        left=left,
        right=right,
        difference=difference,
        low=difference - float(np.hypot(left.top1 - left_low, right_high - right.top1)),
        high=difference + float(np.hypot(left_high - left.top1, right.top1 - right_low)),
    )


def compare_arms(rows: Sequence[Row], left: str, right: str) -> tuple[Comparison, ...]:
    """Compares two arms on each fraction that both have, by rising fraction.

    Several rows of an arm and a fraction (seeds) count as their mean: to pick the best would be to choose on
    the test set.
    """
    groups: dict[tuple[str, float], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.arm, row.label_fraction), []).append(row)
    means = {
        key: replace(group[0], top1=float(np.mean([row.top1 for row in group]))) for key, group in groups.items()
    }
    return tuple(
        compare(means[left, fraction], means[right, fraction])
        for fraction in sorted({fraction for _, fraction in means})
        if (left, fraction) in means and (right, fraction) in means
    )


def nearest_neighbours(h: np.ndarray, queries: np.ndarray, count: int) -> np.ndarray:
    """Finds each query's nearest others by cosine of h.

    Args:
      h: float [n, D].
      queries: int [q], rows of h.
      count: how many neighbours; fewer where n - 1 is smaller.

    Returns:
      int64 [q, min(count, n - 1)], nearest first; a query is never its own neighbour.
    """
    unit = h / np.maximum(np.linalg.norm(h, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    similarity = unit[queries] @ unit.T
    similarity[np.arange(len(queries)), queries] = -np.inf
    return np.argsort(-similarity, axis=1, kind="stable")[:, : min(count, len(h) - 1)]


def choose_queries(label_index: np.ndarray, count: int, *, seed: int) -> np.ndarray:
    """Picks rows at random, of as many different classes as there are. Returns int64 [min(count, n)]."""
    order = np.random.default_rng(seed).permutation(len(label_index))
    # A row's turn is how many of its class came before it: all first ones, then all second ones.
    seen: dict[int, int] = {}
    turns = []
    for row in order:
        label = int(label_index[row])
        turns.append(seen.get(label, 0))
        seen[label] = turns[-1] + 1
    return order[np.argsort(turns, kind="stable")][:count]


@dataclass(frozen=True, kw_only=True)
class EmbeddingMap:
    """Points of the plane for a subset of the test set: `rows` int [m], `position` float [m, 2]."""

    rows: np.ndarray
    position: np.ndarray
    method: str


def project(embeddings: Embeddings, *, seed: int) -> EmbeddingMap:
    """Lays at most MAP_POINTS test images out in the plane: t-SNE, or PCA where they are very few."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(embeddings.h))[:MAP_POINTS])
    h = embeddings.h[rows].astype(np.float64)
    if len(rows) < MIN_TSNE_POINTS:
        position = np.zeros((len(rows), 2))
        components = min(2, *h.shape)
        if len(rows) > 1:
            position[:, :components] = PCA(components, random_state=seed).fit_transform(h)
        return EmbeddingMap(rows=rows, position=position, method="PCA")
    components = min(TSNE_INPUT_DIMENSIONS, *h.shape)
    reduced = PCA(components, random_state=seed).fit_transform(h)
    # A collapsed encoder gives one point many times; "pca" initialisation would divide by its zero spread.
    start = "pca" if components > 1 and reduced.std() > 0 else "random"
    perplexity = min(PERPLEXITY, (len(rows) - 1) / 3)
    tsne = TSNE(2, perplexity=perplexity, init=start, random_state=seed, n_jobs=2)
    return EmbeddingMap(rows=rows, position=tsne.fit_transform(reduced), method="t-SNE")


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Counts int64 [C, C], true class by predicted class, of the classes named; the rest are one of them."""

    counts: np.ndarray
    classes: tuple[str, ...]
    n_hidden: int


def confusion_matrix(run: Run) -> Confusion:
    """Counts true against predicted classes, the MAX_CLASSES most frequent ones apart from the others."""
    predicted = run.probabilities.argmax(axis=1)
    n_classes = len(run.classes)
    shown = frequent_classes(run.label_index, n_classes)
    n_hidden = n_classes - len(shown)
    position = np.full(n_classes, len(shown))
    position[shown] = np.arange(len(shown))
    size = len(shown) + (n_hidden > 0)
    counts = np.zeros((size, size), np.int64)
    np.add.at(counts, (position[run.label_index], position[predicted]), 1)
    names = tuple(run.classes[index] for index in shown) + ((OTHER,) if n_hidden else ())
    return Confusion(counts=counts, classes=names, n_hidden=n_hidden)


def frequent_classes(label_index: np.ndarray, n_classes: int) -> np.ndarray:
    """The MAX_CLASSES most frequent classes, int64, in the order of their index."""
    counts = np.bincount(label_index, minlength=n_classes)
    return np.sort(np.argsort(-counts, kind="stable")[:MAX_CLASSES])


def class_accuracies(run: Run) -> tuple[ClassAccuracy, ...]:
    """Computes each class's accuracy from a run's predictions; classes without test images are left out."""
    right = run.probabilities.argmax(axis=1) == run.label_index
    totals = np.bincount(run.label_index, minlength=len(run.classes))
    hits = np.bincount(run.label_index, weights=right, minlength=len(run.classes))
    return tuple(
        ClassAccuracy(name=name, accuracy=float(hit / total), n=int(total))
        for name, hit, total in zip(run.classes, hits, totals, strict=True)
        if total
    )


def thin(values: np.ndarray, points: int) -> np.ndarray:
    """Shortens a curve to at most `points` values, each the mean of its stretch; NaN stretches stay NaN."""
    if len(values) <= points:
        return values
    return np.array([stretch.mean() for stretch in np.array_split(values, points)])
