"""Whether a challenger is worse than the champion: a paired bootstrap of their answers, and the rule on it."""

import dataclasses
import math
from typing import Literal

import numpy as np

# Of the images on which only one of the two is right, one more for each of them (Bonett and Price, Journal of
# Educational and Behavioral Statistics 37(4), 2012). Without them a set of twenty images on which both answer alike
# would prove that they always do: of challengers worse by the whole margin, up to a third came through.
_IMAGINED = 1
# Accuracies are multiples of one over the number of images; differences of them carry float error and no more.
_FLOAT_ERROR = 1e-9

JudgedBy = Literal["interval", "estimate"]


@dataclasses.dataclass(frozen=True)
class Rule:
    """When a challenger takes the champion's place.

    Attributes:
      max_regression: in [0, 1], the margin: a loss of top-1 up to this is borne.
      judged_by: what must not lie under the margin: the lower end of the difference's interval, so that a larger loss
        is ruled out (non-inferiority), or the difference as it was measured.
      confidence: of the two-sided intervals; the error of a wrong promotion is half of what it leaves.
      resamples: of the bootstrap.
      seed: of the bootstrap.
    """

    max_regression: float
    judged_by: JudgedBy = "interval"
    confidence: float = 0.95
    resamples: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses what is no rule."""
        if not 0 <= self.max_regression <= 1:
            raise ValueError(
                f"max_regression is a difference of accuracies, from 0 to 1; received {self.max_regression}."
            )
        if self.judged_by not in ("interval", "estimate"):
            raise ValueError(f"A rule is judged by the interval or the estimate; received {self.judged_by!r}.")
        if not 0 < self.confidence < 1:
            raise ValueError(f"The confidence of an interval lies between 0 and 1; received {self.confidence}.")
        least = math.ceil(round(2 / (1 - self.confidence), 3))
        if self.resamples < least:
            raise ValueError(
                f"An interval of confidence {self.confidence} needs {least} resamples or more, else it has no tails; "
                f"received {self.resamples}."
            )


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two models on the same images. Accuracies and differences of them in [0, 1]; intervals as (low, high).

    Attributes:
      n_images: that both answered.
      won: images on which only the challenger is right.
      lost: images on which only the champion is right.
      candidate_top1: of the challenger.
      champion_top1: of the champion.
      difference: challenger less champion.
      candidate_interval: of the challenger's accuracy.
      champion_interval: of the champion's.
      difference_interval: of the difference, which is narrower than the two make believe: the images are the same.
      confidence: of the intervals.
    """

    n_images: int
    won: int
    lost: int
    candidate_top1: float
    champion_top1: float
    difference: float
    candidate_interval: tuple[float, float]
    champion_interval: tuple[float, float]
    difference_interval: tuple[float, float]
    confidence: float


def compare(candidate_right: np.ndarray, champion_right: np.ndarray, rule: Rule) -> Comparison:
    """Bootstraps the images, keeping the two answers to each together.

    What a resample says depends on nothing but how many of its images both, one or none answered right. These counts
    are drawn themselves, as a multinomial: the same distribution as that of resampled images, at a cost that does not
    grow with their number.

    Args:
      candidate_right: [n] bool, whether the challenger is right, n ≥ 1.
      champion_right: [n] bool, the champion's on the same images in the same order.
      rule: with confidence, resamples and seed.

    Raises:
      ValueError: the two are of another number of images, or of none.
    """
    candidate_right, champion_right = np.asarray(candidate_right, bool), np.asarray(champion_right, bool)
    if candidate_right.shape != champion_right.shape or candidate_right.ndim != 1 or not len(candidate_right):
        raise ValueError(
            "Two models are compared on the same images, one at least; received answers to "
            f"{candidate_right.shape} and {champion_right.shape}."
        )
    both = int(np.sum(candidate_right & champion_right))
    won, lost = int(np.sum(candidate_right & ~champion_right)), int(np.sum(~candidate_right & champion_right))
    n_images = len(candidate_right)
    counts = np.array([both, won + _IMAGINED, lost + _IMAGINED, n_images - both - won - lost])
    total = counts.sum()
    drawn = np.random.default_rng(rule.seed).multinomial(total, counts / total, size=rule.resamples)
    candidate, champion = (drawn[:, 0] + drawn[:, 1]) / total, (drawn[:, 0] + drawn[:, 2]) / total
    return Comparison(
        n_images=n_images,
        won=won,
        lost=lost,
        candidate_top1=(both + won) / n_images,
        champion_top1=(both + lost) / n_images,
        difference=(won - lost) / n_images,
        candidate_interval=_interval(candidate, rule.confidence),
        champion_interval=_interval(champion, rule.confidence),
        difference_interval=_interval((drawn[:, 1] - drawn[:, 2]) / total, rule.confidence),
        confidence=rule.confidence,
    )


def is_not_worse(comparison: Comparison, rule: Rule) -> bool:
    """Says whether the challenger may take the champion's place."""
    decisive = comparison.difference_interval[0] if rule.judged_by == "interval" else comparison.difference
    return decisive >= -rule.max_regression - _FLOAT_ERROR


def in_words(comparison: Comparison, version: int) -> str:
    """What was measured: 'top-1 0.4520 on 1000 test images against 0.4300 of the champion, version 2: …'."""
    low, high = comparison.difference_interval
    return (
        f"top-1 {comparison.candidate_top1:.4f} on {comparison.n_images} test images against "
        f"{comparison.champion_top1:.4f} of the champion, version {version}: {_difference(comparison.difference)} "
        f"({100 * comparison.confidence:g}% interval {low:+.4f} to {high:+.4f}; right where the other is wrong: "
        f"{comparison.won} against {comparison.lost} times)"
    )


def why_not(comparison: Comparison, rule: Rule) -> str:
    """Why a challenger is kept back, and what would let it pass."""
    margin = rule.max_regression
    low, high = comparison.difference_interval
    if rule.judged_by == "estimate":
        return f"max_regression allows a loss of {margin:.4f}"
    if high < -margin:
        return f"the loss is larger than the {margin:.4f} that max_regression allows"
    reserve = comparison.difference + margin
    if reserve <= 0:
        return f"max_regression allows a loss of {margin:.4f}, and even the measured difference is below that"
    enough = math.ceil(comparison.n_images * ((comparison.difference - low) / reserve) ** 2)
    return (
        f"a loss of more than the {margin:.4f} that max_regression allows cannot be ruled out. With answers like "
        f"these, about {_rounded(enough)} test images would rule it out; or allow more by gate.max_regression, or "
        "let gate.judged_by=estimate decide by the measured difference"
    )


def _interval(draws: np.ndarray, confidence: float) -> tuple[float, float]:
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _difference(difference: float) -> str:
    if difference == 0:
        return "no difference"
    return f"{'better' if difference > 0 else 'worse'} by {abs(difference):.4f}"


def _rounded(number: int) -> int:
    """Two significant digits, upwards: nobody should take an estimate for more than it is."""
    unit = 10 ** max(len(str(number)) - 2, 0)
    return math.ceil(number / unit) * unit
