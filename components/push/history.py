"""What became of each candidate and of the pointer: one JSON line a decision, beside the versions."""

import datetime
import json
import posixpath
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tfx.dsl.io import fileio

from components.push.publishing import write_atomically, write_object

HISTORY_FILE = "HISTORY.jsonl"
# Events. `found`: the pointer stood at a version that no line told of: set by hand, by another tool, or by a push
# that was killed before it could write its line.
PROMOTED, KEPT_BACK, ROLLED_BACK, FOUND = "promoted", "kept back", "rolled back", "found"

Entry = Mapping[str, Any]


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
        self._path, self._is_remote = posixpath.join(directory, HISTORY_FILE), is_remote

    def entries(self) -> list[Entry]:
        """Reads all entries; none where there is no file yet.

        Raises:
          ValueError: a line is none of ours.
        """
        return [entry for entry, _ in self._read()]

    def append(self, event: str, *, champion: int | None, former: int | None, reason: str, **details: Any) -> None:
        """Adds an entry, unless it says what the last one says: a push that is repeated decides once."""
        entry = {"event": event, "champion": champion, "former": former, "reason": reason, **details}
        lines = self._read()
        if lines and {**lines[-1][0], "time": None} == {**json.loads(json.dumps(entry)), "time": None}:
            return
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        text = "".join(f"{line}\n" for _, line in lines)
        text += json.dumps({"time": now, **entry}, ensure_ascii=False) + "\n"
        if self._is_remote:
            write_object(text, self._path)
        else:
            write_atomically(text, Path(self._path))

    def _read(self) -> list[tuple[Entry, str]]:
        if not fileio.exists(self._path):
            return []
        with fileio.open(self._path, "rb") as file:
            # Not splitlines: a name may hold other characters that it takes for ends of lines.
            lines = file.read().decode().rstrip("\n").split("\n")
        return [(self._parsed(line, number), line) for number, line in enumerate(lines, 1)]

    def _parsed(self, line: str, number: int) -> Entry:
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            entry = None
        if not isinstance(entry, dict) or not {"event", "champion", "former"} <= entry.keys():
            raise ValueError(
                f"A line of {self._path} is a JSON object with event, champion and former; line {number} is "
                f"{line[:80]!r}. Mend it, or move the file away: then rollback knows nothing of what was before."
            )
        return entry


def last_champion(entries: Iterable[Entry]) -> int | None:
    """The champion as the entries tell it."""
    champion = None
    for entry in entries:
        champion = entry["champion"]
    return champion


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


def is_withdrawn(entries: Iterable[Entry], version: int) -> bool:
    """Whether somebody rolled back from a version and nobody has promoted it since."""
    withdrawn = False
    for entry in entries:
        if entry["event"] == ROLLED_BACK and entry["former"] == version:
            withdrawn = True
        elif entry["champion"] == version:
            withdrawn = False
    return withdrawn
