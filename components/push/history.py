"""What became of each candidate and of the pointer: one JSON line a decision, beside the versions."""

import datetime
import json
import posixpath
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from components.push import pointer
from components.push.pointer import Entry
from components.push.publishing import write_atomically, write_object

# Events. `found`: the pointer stood at a version that no line told of: set by hand, or by another tool.
PROMOTED, KEPT_BACK, ROLLED_BACK, FOUND = "promoted", "kept back", "rolled back", "found"


class History:
    """The decisions about one folder of versions, oldest first.

    An entry has `time` (UTC, ISO 8601), `event`, `champion` (number of the version that is it from then on, or null),
    `former` (the champion before), `reason`, and of a candidate what `Decision` holds. The file is replaced whole: a
    reader, and a kill, meet the old lines or the new. Writers hold the lock of the folder.
    """

    def __init__(self, directory: str, *, is_remote: bool):
        """Points at the history of a folder, which need not exist.

        Args:
          directory: of the versions.
          is_remote: on an object store, which replaces an object at once.
        """
        self._directory, self._is_remote = directory, is_remote

    def entries(self) -> list[Entry]:
        """Reads all entries; none where there is no file yet.

        Raises:
          ValueError: a line is none of ours.
        """
        return [entry for entry, _ in pointer.history_lines(self._directory)]

    def append(self, event: str, *, champion: int | None, former: int | None, reason: str, **details: Any) -> None:
        """Adds an entry, unless it says what the last one says: a push that is repeated decides once."""
        entry = {"event": event, "champion": champion, "former": former, "reason": reason, **details}
        lines = pointer.history_lines(self._directory)
        if lines and {**lines[-1][0], "time": None} == {**json.loads(json.dumps(entry)), "time": None}:
            return
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        text = "".join(f"{line}\n" for _, line in lines)
        text += json.dumps({"time": now, **entry}, ensure_ascii=False) + "\n"
        path = posixpath.join(self._directory, pointer.HISTORY_FILE)
        if self._is_remote:
            write_object(text, path)
        else:
            write_atomically(text, Path(path))


def last_champion(entries: Iterable[Entry]) -> int | None:
    """The champion as the entries tell it."""
    champion = None
    for entry in entries:
        champion = entry["champion"]
    return champion


def was_promoted(entries: Iterable[Entry], version: int) -> bool:
    """Whether an entry tells of the promotion of a version."""
    return any(entry["event"] == PROMOTED and entry["champion"] == version for entry in entries)


def former_champions(entries: Iterable[Entry], version: int) -> list[int]:
    """The champions that led to a version, the latest first: where a rollback from it goes.

    A version's own way counts, not the order of time: after a rollback from 3 to 2 the one before is still 1.
    """
    predecessor: dict[int, int | None] = {}
    for entry in entries:
        if entry["event"] in (PROMOTED, FOUND) and entry["champion"] != entry["former"]:
            predecessor[entry["champion"]] = entry["former"]
    found: list[int] = []
    before = predecessor.get(version)
    while before is not None and before != version and before not in found:
        found.append(before)
        before = predecessor.get(before)
    return found


def best_champion(entries: Iterable[Entry], test_set: str) -> tuple[int, float] | None:
    """The champion that scored best when it was promoted, and its accuracy; the earlier one of equals.

    Only those count that were scored on these test images, and from which nobody has rolled back.

    Args:
      entries: oldest first.
      test_set: digest of the images.

    Returns:
      Its version and top-1; None: no champion was scored on these images.
    """
    entries = list(entries)
    scored = {
        entry["champion"]: entry["candidate_top1"]
        for entry in entries
        if entry["event"] == PROMOTED and entry.get("test_set") == test_set
    }
    there = [version for version in scored if not is_withdrawn(entries, version)]
    best = max(there, key=lambda version: (scored[version], -version), default=None)
    return None if best is None else (best, scored[best])


def is_withdrawn(entries: Iterable[Entry], version: int) -> bool:
    """Whether somebody rolled back from a version and nobody has promoted it since."""
    withdrawn = False
    for entry in entries:
        if entry["event"] == ROLLED_BACK and entry["former"] == version:
            withdrawn = True
        elif entry["champion"] == version:
            withdrawn = False
    return withdrawn
