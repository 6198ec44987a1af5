"""A look at a source that grows: which files are there, and in which state each of them is."""

import itertools
import os
import posixpath
import stat
from collections.abc import Iterator
from typing import NamedTuple

from apache_beam.io.filesystems import FileSystems

from components.image_example_gen import names, sources
from components.span_ingest import patterns


class State(NamedTuple):
    """By which a changed file is told: its size, and the time of its last change as its file system gives it."""

    size: int
    version: str


class Look(NamedTuple):
    """What a look sees.

    Attributes:
      root: that the paths are relative to.
      files: states by path; as text, in which bytes that are not UTF-8 are escaped.
      names: the paths as the file system knows them, by path.
      rejects: what is no file to be read, such as a link out of the folder, by path; a folder's ends in a slash, and
        of files whose names are the same as text all but the first end in two slashes and a number.
      touched_s: when a file was last written or renamed, seconds since the epoch; local files only.
    """

    root: str
    files: dict[str, State]
    names: dict[str, str]
    rejects: dict[str, names.Reject]
    touched_s: dict[str, float]


def look(path: str) -> Look:
    """Lists a folder, a glob, an archive, or a path with {SPAN} or {YYYY}, {MM} and {DD}, such as in/span-{SPAN}.

    A folder in which nothing is, and a glob that matches nothing, is an empty delivery.

    Raises:
      ValueError: a local path that does not exist.
    """
    pattern = None
    if patterns.FIELD.search(path):
        path, pattern = patterns.root_and_pattern(path)
    root, listed = _list(path)
    seen = Look(root, {}, {}, {}, {})
    for name, found in listed:
        text = names.text(name)
        # What lies in a folder that cannot be listed might match.
        is_folder = name.endswith("/")
        if name.lower().endswith(names.CLASS_SUFFIX) or (pattern and not is_folder and not pattern.match(name)):
            continue
        if text in seen.files or text in seen.rejects:
            text, found = _of_same_text(text, seen)
        if isinstance(found, names.Reject):
            seen.rejects[text] = found
        else:
            state, touched_s = found
            seen.files[text], seen.names[text] = state, name
            if touched_s is not None:
                seen.touched_s[text] = touched_s
    return seen


def order_of(path: str, source: str) -> tuple[int, ...] | None:
    """The number or date of the delivery that a file's folder or name states; None: the source has no such field.

    Args:
      path: of the file, relative to the source's root.
      source: its path, perhaps with fields.
    """
    if not patterns.FIELD.search(source):
        return None
    matched = patterns.root_and_pattern(source)[1].match(path)
    given = matched.groupdict() if matched else {}
    return tuple(int(given[name]) for name in patterns.ORDER if name in given) or None


def again(seen: Look, paths: list[str]) -> dict[str, State | None]:
    """Looks at some of the files once more; None: it is there no more."""
    states = {}
    for path in paths:
        full = posixpath.join(seen.root, seen.names[path])
        try:
            states[path] = _remote_state(full) if "://" in full else _local_state(os.stat(full))[0]
        except OSError:
            states[path] = None
    return states


def _of_same_text(text: str, seen: Look) -> tuple[str, names.Reject]:
    """A reject for a file that would be taken for another one: escaped bytes, beside a name that has the escape."""
    # No local path has two slashes in a row, and only local names have bytes to be escaped.
    path = next(path for n in itertools.count(2) if (path := f"{text}//{n}") not in seen.rejects)
    detail = "another file's name is written the same, with bytes that are not UTF-8 escaped; rename one of them"
    return path, names.Reject(names.text(posixpath.join(seen.root, path)), "same_name", detail)


def _list(path: str) -> tuple[str, Iterator[tuple[str, names.Reject | tuple[State, float | None]]]]:
    if "://" in path:
        return _list_remote(path)
    path = os.path.abspath(path)
    if _is_empty(path):
        return path, iter(())
    root, found = sources.list_files(path)
    # Of two names that are written the same it decides which is read.
    found.sort(key=lambda item: (isinstance(item, names.Reject), getattr(item, "uri", item)))
    return root, _with_states(root, found)


def _is_empty(path: str) -> bool:
    """Whether it is a glob that matches nothing, or a folder of which only that can be said."""
    if os.path.exists(path) or not any(sign in path for sign in "*?["):
        return False
    return not FileSystems.match([path])[0].metadata_list


def _with_states(root: str, found: list) -> Iterator[tuple[str, names.Reject | tuple[State, float | None]]]:
    for item in found:
        if isinstance(item, names.Reject):
            yield item.uri.removeprefix(f"{names.text(root)}/"), item
            continue
        full = os.path.join(root, item)
        try:
            status = os.stat(full)
        except (FileNotFoundError, NotADirectoryError):
            # It has gone since it was listed.
            continue
        except OSError as error:
            yield item, names.Reject(names.text(full), "unreadable", names.text(str(error)))
            continue
        if stat.S_ISREG(status.st_mode):
            yield item, _local_state(status)


def _local_state(status: os.stat_result) -> tuple[State, float]:
    # The time of the last change of the entry cannot be set by who copies, as that of the content can. It is no part
    # of the state: chmod, hard links and restored backups change it of files whose content is the same.
    return State(status.st_size, str(status.st_mtime_ns)), max(status.st_mtime, status.st_ctime)


def _list_remote(path: str) -> tuple[str, Iterator[tuple[str, tuple[State, None]]]]:
    root, objects = sources.list_remote(path)
    return root, ((name, (_state_of(item), None)) for name, item in objects.items())


def _remote_state(uri: str) -> State:
    [found] = FileSystems.match([uri])[0].metadata_list or [None]
    if found is None:
        raise FileNotFoundError(uri)
    return _state_of(found)


def _state_of(found) -> State:
    return State(found.size_in_bytes, str(found.last_updated_in_seconds))
