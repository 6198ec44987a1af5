"""What became of each candidate and of the pointer: one JSON line a decision, beside the versions."""

import datetime
import json
import posixpath
from collections.abc import Iterable
from typing import Any

from components.push import pointer
from components.push.pointer import Entry
from components.push.rivals import OvertakenError
from components.span_ingest.folder import Folder

# Events. `found`: the pointer stood at a version that no line told of: set by hand, or by another tool.
PROMOTED, KEPT_BACK, ROLLED_BACK, FOUND = "promoted", "kept back", "rolled back", "found"
_MOST_ATTEMPTS = 10


class History:
    """The decisions about one folder of versions, oldest first.

    An entry has `time` (UTC, ISO 8601), `event`, `champion` (number of the version that is it from then on, or null),
    `former` (the champion before), `reason`, and of a candidate what `Decision` holds. The file is replaced whole: a
    reader, and a kill, meet the old lines or the new. On a disk writers hold the lock of the folder; on an object
    store they write only over what they have read.
    """

    def __init__(self, folder: Folder):
        """Reads the history of a folder of versions, which need not exist."""
        self._folder = folder
        self._content = folder.read(pointer.HISTORY_FILE)

    def entries(self) -> list[Entry]:
        """All entries as they were read, and those added since; none where there is no file yet.

        Raises:
          ValueError: a line is none of ours.
        """
        return [entry for entry, _ in pointer.told(self._folder.path, self._content)]

    def append(
        self,
        event: str,
        *,
        champion: int | None,
        former: int | None,
        reason: str,
        moved: bool = False,
        **details: Any,
    ) -> None:
        """Adds an entry, unless it says what the last one says: a push that is repeated decides once.

        On an object store others may have added theirs since this was read. The one who has moved the pointer adds an
        entry all the same; in place of theirs, if one of them met the pointer first and told of it what it knew.

        Args:
          event: one of those above.
          champion: from then on.
          former: the champion before.
          reason: in words.
          moved: the caller has just moved the pointer from the one to the other.
          details: what else to tell, JSON values.

        Raises:
          OvertakenError: others have added theirs; the caller, who has moved nothing, may have to decide otherwise.
          RuntimeError: others added theirs before each attempt.
        """
        entry = {"event": event, "champion": champion, "former": former, "reason": reason, **details}
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        line = json.dumps({"time": now, **entry}, ensure_ascii=False)
        path = posixpath.join(self._folder.path, pointer.HISTORY_FILE)
        n_read, before = len(self.entries()), self._content
        for _ in range(_MOST_ATTEMPTS):
            told = pointer.told(self._folder.path, before)
            if told and {**told[-1][0], "time": None} == {**json.loads(json.dumps(entry)), "time": None}:
                return
            lines = [theirs for _, theirs in told]
            moves = [(other["former"], other["champion"]) for other, _ in told[n_read:]]
            place = n_read + moves.index((former, champion)) if (former, champion) in moves else len(lines)
            lines[place : place + 1] = [line]
            content = "".join(f"{each}\n" for each in lines).encode()
            if self._folder.swap(pointer.HISTORY_FILE, before, content):
                self._content = content
                return
            if not moved:
                raise OvertakenError(path)
            before = self._folder.read(pointer.HISTORY_FILE)
        raise RuntimeError(
            f"The champion is version {champion} now, but others wrote to {path} before each of {_MOST_ATTEMPTS} "
            "attempts to tell it there. The next push or rollback does."
        )


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
