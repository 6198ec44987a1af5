"""Which of a run's classifiers may be pushed. Of no packages, since programs that only read metrics.json ask, too."""

from collections.abc import Iterable, Mapping
from typing import Any

# SimCLRv2 ends with the student; where there is none, what was fine-tuned is the last that learns from labels.
_ARMS = ("distill", "finetune")


def candidate_of(rows: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The row of the candidate: of the last step that there is, on the largest fraction of the labels.

    Args:
        rows: with `arm` and `label_fraction`; others than classifiers' may be among them.

    Returns:
        None where none of them may be pushed.
    """
    rows = list(rows)
    for arm in _ARMS:
        if of_arm := [row for row in rows if row["arm"] == arm]:
            return max(of_arm, key=lambda row: row["label_fraction"])
    return None
