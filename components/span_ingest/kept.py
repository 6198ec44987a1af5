"""Choices that outlive the run that made them, kept beside the spans: what was once chosen stays.

    <below>/000001.json    by name, what was chosen
    <below>/000002.json    of the names that came later

A number is claimed by creating its file, which only one run can; the other reads it, and chooses once more.
"""

import json
import math
import posixpath
from collections.abc import Callable, Container
from typing import TypeVar

from components.span_ingest.folder import Folder, open_folder
from components.span_ingest.store import DamagedError

# More rivals than this at once are no rivals, but a fault.
_MOST_RACES = 10
_DIGITS = 6
_Choice = TypeVar("_Choice", str, float | None)


def settle(
    store: str,
    below: str,
    choose: Callable[[dict[str, _Choice]], dict[str, _Choice]],
    *,
    allowed: Container[_Choice],
    if_removed: str,
) -> dict[str, _Choice]:
    """Chooses, knowing what was chosen before, and keeps what is new or another.

    It is kept before this returns, so a run that is killed afterwards chooses the same.

    Args:
      store: folder at a local path or on gs://.
      below: name in it of these choices.
      choose: from all earlier choices by name to those of today; called once more where another run was first.
      allowed: choices that there are.
      if_removed: for messages, what happens if `below` is removed.

    Raises:
      DamagedError: what is kept is not what was written.
    """
    folder = open_folder(store)
    for _ in range(_MOST_RACES):
        files = sorted(folder.sizes(below))
        earlier = _read(folder, files, below, allowed, if_removed)
        chosen = choose(earlier)
        new = {name: choice for name, choice in chosen.items() if earlier.get(name, math.nan) != choice}
        number = int(posixpath.basename(files[-1]).partition(".")[0]) + 1 if files else 1
        content = json.dumps(new, indent=0, sort_keys=True).encode()
        if not new or folder.create(f"{below}/{number:0{_DIGITS}d}.json", content):
            return chosen
    raise RuntimeError(f"{folder.path}/{below}: other runs were first {_MOST_RACES} times; who writes there?")


def read(store: str, below: str, *, allowed: Container[_Choice], if_removed: str) -> dict[str, _Choice]:
    """Returns what was chosen before; see `settle`."""
    folder = open_folder(store)
    return _read(folder, sorted(folder.sizes(below)), below, allowed, if_removed)


def _read(
    folder: Folder, files: list[str], below: str, allowed: Container[_Choice], if_removed: str
) -> dict[str, _Choice]:
    found: dict[str, _Choice] = {}
    for name in files:
        try:
            told = json.loads(folder.read(name) or b"")
        except ValueError as error:
            raise _damaged(folder, name, below, str(error), if_removed) from error
        if not isinstance(told, dict) or any(choice not in allowed for choice in told.values()):
            raise _damaged(folder, name, below, "it holds another choice than there are", if_removed)
        found |= told
    return found


def _damaged(folder: Folder, name: str, below: str, how: str, if_removed: str) -> DamagedError:
    return DamagedError(
        f"{folder.path}/{name} is not what was written: {how}. Restore it, or remove {folder.path}/{below}: "
        f"{if_removed}."
    )
