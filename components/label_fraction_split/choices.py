"""What was chosen before, kept beside the spans: so an image's subset never changes, whatever labels arrive.

    labels/seed-0-fractions-0.01-0.1/000001.json    by key, the smallest fraction that it is in, or null: in none
    labels/seed-0-fractions-0.01-0.1/000002.json    of the keys that came later

A number is claimed by creating its file, which only one run can; the other reads it, and chooses once more.
"""

import json
import math
import posixpath
from collections.abc import Iterable, Mapping, Sequence

from components.span_ingest.folder import Folder, open_folder
from components.span_ingest.store import DamagedError
from trainer.label_fractions import smallest_fractions

FOLDER = "labels"
# More rivals than this at once are no rivals, but a fault.
_MOST_RACES = 10
_DIGITS = 6


def settle(
    store: str, keys_by_class: Mapping[str, Iterable[str]], fractions: Sequence[float], *, seed: int
) -> dict[str, float | None]:
    """Chooses for keys that no earlier choice knows, and keeps that; see `label_fractions.smallest_fractions`.

    What of it is new is kept before anything else is written, so a run that is killed afterwards chooses the same.

    Args:
      store: folder at a local path or on gs://; other seeds and fractions have their own choices in it.
      keys_by_class: different keys of each class, at least one.
      fractions: different numbers in (0, 1], ascending.
      seed: of the hash that orders new keys.

    Raises:
      DamagedError: what is kept is not what was written.
    """
    folder = open_folder(store)
    below = posixpath.join(FOLDER, "-".join(["seed", str(seed), "fractions", *map(str, fractions)]))
    for _ in range(_MOST_RACES):
        files = sorted(folder.sizes(below))
        earlier = _read(folder, files, below, fractions)
        chosen = smallest_fractions(keys_by_class, fractions, seed=seed, earlier=earlier)
        # Of the earlier ones only what moved for a class that had none left in a fraction.
        new = {key: smallest for key, smallest in chosen.items() if earlier.get(key, math.nan) != smallest}
        number = int(posixpath.basename(files[-1]).partition(".")[0]) + 1 if files else 1
        content = json.dumps(new, indent=0, sort_keys=True).encode()
        if not new or folder.create(f"{below}/{number:0{_DIGITS}d}.json", content):
            return chosen
    raise RuntimeError(f"{folder.path}/{below}: other runs were first {_MOST_RACES} times; who writes there?")


def _read(folder: Folder, files: Sequence[str], below: str, fractions: Sequence[float]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for name in files:
        try:
            told = json.loads(folder.read(name) or b"")
        except ValueError as error:
            raise _damaged(folder, name, below, str(error)) from error
        if not isinstance(told, dict) or any(value not in (None, *fractions) for value in told.values()):
            raise _damaged(folder, name, below, "it does not say of each key in which fraction it is")
        found |= told
    return found


def _damaged(folder: Folder, name: str, below: str, how: str) -> DamagedError:
    return DamagedError(
        f"{folder.path}/{name} is not what was written: {how}. Restore it, or remove {folder.path}/{below}: "
        "label fractions are then chosen anew, and some images change theirs."
    )
