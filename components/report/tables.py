"""The tables of the page, cut to a length that a reader and a browser can bear."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from components.report.analysis import MAX_CLASSES
from components.report.content import ARM_NAMES, ClassAccuracy, LabelCounts, Reject, Row

MAX_REJECTS = 50


@dataclass(frozen=True, kw_only=True)
class RejectTable:
    """Counts by source and reason, and the first rejects of the run."""

    total: int
    reasons: tuple[tuple[str, str, int], ...]
    first: tuple[Reject, ...]


@dataclass(frozen=True, kw_only=True)
class LabelTable:
    """Labels of each class (row) in each fraction (column), with the totals."""

    fractions: tuple[float, ...]
    rows: tuple[tuple[str, tuple[int, ...]], ...]
    totals: tuple[int, ...]
    n_classes: int


def accuracy_table(rows: Sequence[Row]) -> list[tuple[float, str, list[tuple[Row, bool]]]]:
    """Groups rows by rising fraction, arms in reading order.

    Returns:
      For each fraction the number of its labels, and its rows, each with a flag that marks the best.
    """
    order = {arm: position for position, arm in enumerate(ARM_NAMES)}
    ordered = sorted(rows, key=lambda row: (row.label_fraction, order.get(row.arm, len(order)), row.arm, row.seed))
    groups = []
    for fraction, members in groupby(ordered, key=lambda row: row.label_fraction):
        group = list(members)
        best = max(row.top1 for row in group)
        n_labels = " or ".join(f"{count:,}" for count in sorted({row.n_labels for row in group}))
        groups.append((fraction, n_labels, [(row, row.top1 == best) for row in group]))
    return groups


def reject_table(rejects: Sequence[Reject]) -> RejectTable:
    """Counts the reasons, the most frequent first, and keeps the first MAX_REJECTS rejects."""
    reasons = Counter((reject.source, reject.reason) for reject in rejects)
    return RejectTable(
        total=len(rejects),
        reasons=tuple((source, reason, count) for (source, reason), count in reasons.most_common()),
        first=tuple(rejects[:MAX_REJECTS]),
    )


def label_table(labels: LabelCounts) -> LabelTable:
    """Lays out how many labels each class has in each fraction, for the MAX_CLASSES with the most labels."""
    fractions = tuple(sorted(labels.fractions))
    largest = labels.fractions[fractions[-1]] if fractions else {}
    frequent = set(sorted(labels.classes, key=lambda name: -largest.get(name, 0))[:MAX_CLASSES])
    return LabelTable(
        fractions=fractions,
        rows=tuple(
            (name, tuple(labels.fractions[fraction].get(name, 0) for fraction in fractions))
            for name in labels.classes
            if name in frequent
        ),
        totals=tuple(sum(labels.fractions[fraction].values()) for fraction in fractions),
        n_classes=len(labels.classes),
    )


def most_frequent(accuracies: Sequence[ClassAccuracy], count: int) -> tuple[ClassAccuracy, ...]:
    """Keeps the classes with the most test images, in their order."""
    ranked = sorted(range(len(accuracies)), key=lambda position: -(accuracies[position].n or 0))
    return tuple(accuracies[position] for position in sorted(ranked[:count]))
