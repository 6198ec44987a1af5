"""Reads a folder of pushed versions: which there are, which is the champion, and what was decided. Writes nothing.

What reads and does not push imports this alone: a change in how models are pushed is none of its business.
"""

import json
import posixpath
from collections.abc import Mapping
from typing import Any

from tfx.dsl.io import fileio

MODEL_FILE = "saved_model.pb"
CHAMPION_FILE = "CHAMPION"
HISTORY_FILE = "HISTORY.jsonl"
# What a push adds to a version: the record of the push, and the weights that a later pretraining may start from.
ADDED_FOLDER = "assets.extra/push"

# Of a number, and of as many of a mistake as are told.
_MAX_POINTER_BYTES = 80

Entry = Mapping[str, Any]


def path_of(folder: str, version: int) -> str:
    """Says where a version is, or would be."""
    return posixpath.join(folder, str(version))


def numbers(folder: str) -> list[int]:
    """Lists the versions, ascending, those that are not whole among them."""
    if not fileio.exists(folder):
        return []
    # Listings of object stores end directories with a slash.
    names = [name.rstrip("/") for name in fileio.listdir(folder)]
    return sorted(int(name) for name in names if name.isdecimal())


def versions(folder: str) -> list[int]:
    """Lists the whole versions, ascending."""
    return [
        number for number in numbers(folder) if fileio.exists(posixpath.join(path_of(folder, number), MODEL_FILE))
    ]


def champion(folder: str) -> int | None:
    """Reads which version is the best; None if there is none yet.

    Without a pointer it is the newest version: a killed push may have brought it and not yet pointed at it.

    Raises:
      ValueError: if the pointer holds something else than a number.
    """
    return named(folder, _read(posixpath.join(folder, CHAMPION_FILE), _MAX_POINTER_BYTES))


def named(folder: str, pointer: bytes | None) -> int | None:
    """Says which version is the best where the pointer holds this, or is not there (None); see `champion`."""
    if pointer is None:
        return max(versions(folder), default=None)
    text = pointer[:_MAX_POINTER_BYTES].decode(errors="backslashreplace").strip()
    if not text.isdecimal():
        path = posixpath.join(folder, CHAMPION_FILE)
        raise ValueError(f"{path} holds the number of a version; received {text!r}. Write one, or remove it.")
    return int(text)


def history_lines(folder: str) -> list[tuple[Entry, str]]:
    """Reads the decisions, oldest first, each with its line; none where there is no file yet.

    Raises:
      ValueError: a line is none of ours.
    """
    return told(folder, _read(posixpath.join(folder, HISTORY_FILE)))


def told(folder: str, history: bytes | None) -> list[tuple[Entry, str]]:
    """The decisions where the history holds this, or is not there (None); see `history_lines`."""
    if history is None:
        return []
    path = posixpath.join(folder, HISTORY_FILE)
    # Not splitlines: a name may hold other characters that it takes for ends of lines.
    lines = history.rstrip(b"\n").split(b"\n")
    return [_parsed(line, number, path) for number, line in enumerate(lines, 1)]


def _read(path: str, size: int = -1) -> bytes | None:
    if not fileio.exists(path):
        return None
    with fileio.open(path, "rb") as file:
        return file.read(size)


def _parsed(line: bytes, number: int, path: str) -> tuple[Entry, str]:
    try:
        text = line.decode()
        entry = json.loads(text)
    except (ValueError, RecursionError):
        entry = None
    if not isinstance(entry, dict) or not _tells_a_decision(entry):
        shown = line[:80].decode(errors="backslashreplace")
        raise ValueError(
            f"A line of {path} is a JSON object with event, champion and former; line {number} is {shown!r}. "
            "Mend it, or move the file away: then rollback knows nothing of what was before."
        )
    return entry, text


def _tells_a_decision(entry: Entry) -> bool:
    """Whether it has an event in words, and for champion and former the number of a version, or null."""
    versions_or_null = (entry.get(name, "") for name in ("champion", "former"))
    return isinstance(entry.get("event"), str) and all(
        n is None or (type(n) is int and n >= 0) for n in versions_or_null
    )
