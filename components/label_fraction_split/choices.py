"""What was chosen before, kept beside the spans: so an image's subset never changes, whatever labels arrive.

labels/seed-0-fractions-0.01-0.1/000001.json    by key, the smallest fraction that it is in, or null: in none
"""

import posixpath
from collections.abc import Iterable, Mapping, Sequence

from components.span_ingest import kept
from trainer.label_fractions import smallest_fractions

FOLDER = "labels"


def settle(
    store: str, keys_by_class: Mapping[str, Iterable[str]], fractions: Sequence[float], *, seed: int
) -> dict[str, float | None]:
    """Chooses for keys that no earlier choice knows, and keeps that; see `label_fractions.smallest_fractions`.

    What is kept of earlier keys is another only where one moved for a class that had none left in a fraction.

    Args:
      store: folder at a local path or on gs://; other seeds and fractions have their own choices in it.
      keys_by_class: different keys of each class, at least one.
      fractions: different numbers in (0, 1], ascending.
      seed: of the hash that orders new keys.

    Raises:
      DamagedError: what is kept is not what was written.
    """
    return kept.settle(
        store,
        posixpath.join(FOLDER, "-".join(["seed", str(seed), "fractions", *map(str, fractions)])),
        lambda earlier: smallest_fractions(keys_by_class, fractions, seed=seed, earlier=earlier),
        allowed=(None, *fractions),
        if_removed="label fractions are then chosen anew, and some images change theirs",
    )
