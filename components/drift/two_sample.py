"""Whether two samples come from one distribution: a kernel test on vectors, and KS tests on numbers."""

import dataclasses
import warnings
from collections.abc import Mapping

import numpy as np
from scipy import stats

# Statistics of permutations that differ in float error only are equal, and then count against an alarm.
_FLOAT_ERROR = 1e-12


@dataclasses.dataclass(frozen=True)
class KernelTest:
    """Outcome of `kernel_test`.

    Attributes:
      mmd2: squared maximum mean discrepancy, in [0, 2].
      expected: its mean over the permutations: what it is where there is no difference.
      p_value: share of the permutations, the given order included, that are at least as large.
    """

    mmd2: float
    expected: float
    p_value: float


def kernel_test(new: np.ndarray, window: np.ndarray, *, permutations: int, seed: int) -> KernelTest:
    """Permutation test of the maximum mean discrepancy (Gretton et al., JMLR 13, 2012, equation 5 and section 8).

    The kernel is Gaussian, as wide as the median distance of the pooled sample. Width and kernel do not depend on
    which vector is new, so that under the hypothesis all assignments are alike, and p ≤ α has a chance of at most α
    at any number of vectors (Phipson and Smyth, 2010, on why the given order counts as well).

    Args:
      new: [n, D] float, n ≥ 1.
      window: [m, D] float, m ≥ 1.
      permutations: random assignments besides the given one.
      seed: of these.

    Raises:
      ValueError: a sample is empty, or the dimensions differ.
    """
    if new.ndim != 2 or window.ndim != 2 or new.shape[1] != window.shape[1] or not len(new) or not len(window):
        raise ValueError(f"Two samples are [n, D] and [m, D], not empty; received {new.shape} and {window.shape}.")
    kernel = _gaussian(np.concatenate([new, window]).astype(np.float64))
    is_new = np.arange(len(kernel)) < len(new)
    random = np.random.default_rng(seed)
    assignments = np.stack([is_new, *(random.permutation(is_new) for _ in range(permutations))], axis=1)
    weights = np.where(assignments, 1 / len(new), -1 / len(window))
    mmd2 = np.einsum("np,np->p", weights, kernel @ weights)
    return KernelTest(
        mmd2=float(max(mmd2[0], 0.0)),
        expected=float(np.maximum(mmd2, 0.0).mean()),
        p_value=float(np.mean(mmd2 >= mmd2[0] - _FLOAT_ERROR)),
    )


def _gaussian(vectors: np.ndarray) -> np.ndarray:
    squares = squared_distances(vectors, vectors)
    apart = squares[np.triu_indices(len(vectors), 1)]
    # Of vectors that differ: where most are alike the median would be 0, or float error.
    apart = apart[apart > _FLOAT_ERROR * squares.max()]
    width2 = np.median(apart) if len(apart) else 1.0
    return np.exp(-squares / (2 * width2))


def squared_distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances: [n, D], [m, D] → [n, m], never negative."""
    squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None] - 2 * left @ right.T
    return np.maximum(squares, 0.0)


@dataclasses.dataclass(frozen=True)
class Shift:
    """One statistic in both samples.

    Attributes:
      name: of the statistic.
      new_median: in the new sample.
      window_median: in the window's.
      distance: of Kolmogorov and Smirnov, the largest gap between the two distributions, in [0, 1].
      p_value: of that gap, adjusted for the number of statistics (Holm): compare it with the rate of the family.
    """

    name: str
    new_median: float
    window_median: float
    distance: float
    p_value: float


def shifts(new: Mapping[str, np.ndarray], window: Mapping[str, np.ndarray]) -> list[Shift]:
    """Two-sample KS tests of each statistic; that any p-value is ≤ α by chance has a chance of at most α.

    Args:
      new: [n] by name of the statistic.
      window: [m] by the same names.
    """
    with warnings.catch_warnings():
        # Where the exact calculation overflows SciPy takes the limit of many samples, and says so.
        warnings.filterwarnings("ignore", message="ks_2samp: Exact calculation unsuccessful")
        tests = {name: stats.ks_2samp(new[name], window[name]) for name in new}
    adjusted = holm(np.array([test.pvalue for test in tests.values()]))
    return [
        Shift(
            name, float(np.median(new[name])), float(np.median(window[name])), float(test.statistic), float(p_value)
        )
        for (name, test), p_value in zip(tests.items(), adjusted, strict=True)
    ]


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's adjustment (Scandinavian Journal of Statistics 6, 1979): [k] p-values → [k] for the whole family."""
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p_values[order]), 1.0)
    return adjusted
