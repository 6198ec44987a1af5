"""Paths with the number or date of a delivery in them, and with wildcards."""

import os
import posixpath
import re

# Numbers that a path may have in its folders or names: those of deliveries, or dates.
_FIELDS = {"SPAN": r"\d+", "YYYY": r"\d{4}", "MM": r"\d{2}", "DD": r"\d{2}"}
FIELD = re.compile(r"\{(" + "|".join(_FIELDS) + r")\}")
ORDER = ("SPAN", "YYYY", "MM", "DD")
_WILDCARDS = "*?["


def root_of(path: str) -> str:
    """The folder in which all that a local path names is, or will be: the path itself, if it is a folder.

    Args:
      path: a folder, a file, a glob, or a path with fields.
    """
    if FIELD.search(path) or (any(sign in path for sign in _WILDCARDS) and not os.path.exists(path)):
        return root_and_pattern(path)[0]
    return path if os.path.isdir(path) else posixpath.dirname(path) or "."


def root_and_pattern(path: str) -> tuple[str, re.Pattern[str]]:
    """The folder above the first field or wildcard, and what the rest of a file's path must look like."""
    parts = path.rstrip("/").split("/")
    first = next(i for i, part in enumerate(parts) if FIELD.search(part) or any(sign in part for sign in _WILDCARDS))
    rest, given = "/".join(parts[first:]), set()
    pieces, end = [], 0
    for field in FIELD.finditer(rest):
        pieces.append(_glob(rest[end : field.start()]))
        name = field[1]
        pieces.append(f"(?P={name})" if name in given else f"(?P<{name}>{_FIELDS[name]})")
        given.add(name)
        end = field.end()
    pieces.append(_glob(rest[end:]))
    # What it names is a file, or a folder with all that is in it.
    root = "/".join(parts[:first]) or ("/" if path.startswith("/") else ".")
    return root, re.compile("".join(pieces) + r"(?:/.*)?\Z", re.DOTALL)


def _glob(text: str) -> str:
    signs = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(signs.get(part, re.escape(part)) for part in re.split(r"(\*\*|\*|\?)", text))
