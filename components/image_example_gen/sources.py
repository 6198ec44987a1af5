"""What the user points at → work items: lists of files, and archives, each for one worker at a time."""

import collections
import contextlib
import dataclasses
import functools
import glob
import json
import os
import posixpath
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from apache_beam.io.filesystem import CompressionTypes, FileMetadata
from apache_beam.io.filesystems import FileSystems

from components.image_example_gen import archives, labels, names, scratch

# Big enough that Beam's cost per element vanishes, small enough that two workers share 1,000 files evenly.
FILES_PER_WORK = 256
_ASKED_ONE_BY_ONE = 32


@dataclasses.dataclass(frozen=True)
class Source:
    """One folder, file or glob of images; `manifest` is the one in use, explicit or found."""

    name: str
    path: str
    split: str
    labeled: bool
    manifest: str | None = None


class Entry(NamedTuple):
    """A file of a source: `path` is relative to the source's root; `class_path` is that of its `.cls` file."""

    path: str
    class_path: str | None = None


@dataclasses.dataclass(frozen=True)
class Work:
    """Files under one root that one worker reads; `kind` is 'files', 'tar', 'zip', 'tfrecords' or 'rejects'."""

    source: Source
    root: str
    kind: str
    entries: tuple[Entry | names.Reject, ...]


def parse_sources(text: str) -> list[Source]:
    """Reads the `sources` parameter.

    Raises:
      ValueError: for JSON that is not a non-empty list of sources with the documented fields.
    """
    try:
        parsed = json.loads(text)
        sources = [Source(**{**item, "labeled": bool(item["labeled"])}) for item in parsed]
    except (json.JSONDecodeError, TypeError, KeyError) as error:
        raise ValueError(
            f"sources: {text[:200]!r} is not a JSON list of objects with name, path, split, labeled and "
            f"optionally manifest ({error})."
        ) from error
    if not sources or len({source.name for source in sources}) < len(sources):
        raise ValueError(f"sources: give at least one, each with a name of its own; received {text[:200]!r}.")
    for source in sources:
        if source.split not in ("train", "test"):
            raise ValueError(f"sources: split of {source.name!r} is {source.split!r}; use 'train' or 'test'.")
    return sources


def plan(source: Source) -> tuple[Source, list[Work]]:
    """Lists a source's files and finds its manifest.

    Returns:
      the source with its manifest, and its work; what lies in files of several archives is not looked into.

    Raises:
      ValueError: when the path does not exist or matches nothing.
    """
    root, found = list_files(source.path)
    files = sorted(item for item in found if isinstance(item, str))
    rejects = sorted((item for item in found if not isinstance(item, str)), key=lambda item: item.uri)
    manifest = _find_manifest(source, root, files)
    source = dataclasses.replace(source, manifest=manifest if source.labeled else None)
    own_manifest = manifest and manifest.removeprefix(_join(root, ""))
    work = work_of(source, root, [path for path in files if path != own_manifest], rejects)
    if not work:
        raise ValueError(f"{source.name}: {source.path} holds no files. Point it at a folder or archive of images.")
    return source, work


def work_of(source: Source, root: str, files: list[str], rejects: list[names.Reject]) -> list[Work]:
    """Deals files of a source out to readers.

    Args:
      source: that they are of.
      root: that the files' paths are relative to.
      files: sorted.
      rejects: what is no file to be read.
    """
    classes = {names.stem(path): path for path in files if path.lower().endswith(names.CLASS_SUFFIX)}
    work: list[Work] = []
    plain: list[Entry | names.Reject] = []
    for path in files:
        stem, end = posixpath.splitext(path)
        end = end.lower()
        if end == names.CLASS_SUFFIX:
            continue
        kind = None if end in names.IMAGE_SUFFIXES else names.archive_kind(path)
        if kind:
            work.append(Work(source, root, kind, (Entry(path),)))
        else:
            plain.append(Entry(path, classes.get(stem) if source.labeled else None))
    for start in range(0, len(plain), FILES_PER_WORK):
        work.append(Work(source, root, "files", tuple(plain[start : start + FILES_PER_WORK])))
    if rejects:
        work.append(Work(source, root, "rejects", tuple(rejects)))
    return work


def total_bytes(work: Iterable[Work]) -> int:
    """Bytes of all files that work items read; of one that is gone by now, none."""
    local, remote = 0, collections.defaultdict(set)
    for item in work:
        for entry in item.entries:
            if isinstance(entry, names.Reject):
                continue
            full = _join(item.root, entry.path)
            if "://" in full:
                remote[item.root].add(full)
                continue
            with contextlib.suppress(OSError):
                local += os.stat(full).st_size
    return local + sum(found.size_in_bytes for root, paths in remote.items() for found in look_again(root, paths))


def look_again(root: str, paths: set[str]) -> Iterator[FileMetadata]:
    """Yields what a store says of objects now, but of those that are gone.

    Args:
      root: that all of them are below.
      paths: their URIs.
    """
    # A request for each of a few files, or one listing of all that is there.
    patterns = sorted(paths) if len(paths) <= _ASKED_ONE_BY_ONE else [f"{root.rstrip('/')}/**"]
    found = (item for match in FileSystems.match(patterns) for item in match.metadata_list)
    return (item for item in found if item.path in paths)


def read(work: Work, *, max_bytes: int) -> Iterator[archives.Item]:
    """Yields everything that a work item holds, each as a candidate or a reject."""
    readers = {"tar": archives.read_tar, "zip": archives.read_zip}
    reader = _reader(work.root)
    for entry in work.entries:
        if isinstance(entry, names.Reject):
            yield entry
            continue
        full = _join(work.root, entry.path)
        uri = names.text(full)
        if work.kind == "files":
            yield _read_file(reader, full, entry, work.root, max_bytes)
        elif work.kind == "tfrecords":
            yield from archives.read_tfrecords(lambda full=full: scratch.open_bytes(full), uri, max_bytes=max_bytes)
        else:
            # A manifest outranks `.cls` members, which then need not be looked for.
            want_classes = work.source.labeled and work.source.manifest is None
            yield from readers[work.kind](
                lambda full=full: scratch.open_bytes(full), uri, max_bytes=max_bytes, want_classes=want_classes
            )


def _reader(root: str) -> Callable[[str, int], bytes]:
    """Finds once, not per file, how files under `root` are read: that costs as much as reading a small image."""
    if "://" not in root:
        return _read_local
    filesystem = FileSystems.get_filesystem(root)

    def read_remote(path: str, max_bytes: int) -> bytes:
        with filesystem.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            return archives.read_limited(file.read, max_bytes)

    return read_remote


def _read_local(path: str, max_bytes: int) -> bytes:
    # Without Python's file objects, which take half of the time to read a small image.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return archives.read_limited(functools.partial(os.read, descriptor), max_bytes)
    finally:
        os.close(descriptor)


def _read_file(
    reader: Callable[[str, int], bytes], full: str, entry: Entry, root: str, max_bytes: int
) -> archives.Item:
    uri = names.text(full)
    try:
        data = reader(full, max_bytes)
        label = None
        if entry.class_path:
            with scratch.open_bytes(_join(root, entry.class_path)) as file:
                label = archives.class_text(file.read(archives.MAX_CLASS_BYTES)) or None
    except OSError as error:
        return names.Reject(uri, "unreadable", names.text(str(error)))
    if len(data) > max_bytes:
        return archives.too_large(uri, len(data), max_bytes)
    return archives.Candidate(uri, names.text(entry.path), data, label)


def list_files(path: str) -> tuple[str, list[str | names.Reject]]:
    """Returns the root and, relative to it, the files under a folder, in a glob, or beside a manifest.

    Raises:
      ValueError: the path does not exist, matches nothing, or is a folder that cannot be listed.
    """
    if "://" in path:
        root, objects = list_remote(path)
        is_folder, found = root == path.rstrip("/"), list(objects)
    else:
        path = os.path.abspath(path)
        if os.path.isdir(path):
            return path, list(_walk(path))
        matched = [path] if os.path.isfile(path) else [item.path for item in _match(path)]
        root, is_folder = _root_of(path), False
        found = [_checked(full, root) for full in matched if not names.is_hidden(full[len(root) + 1 :])]
    if not found:
        raise ValueError(f"{path} does not exist or matches no file. Give a file, a folder or a glob of images.")
    if names.suffix(path) in names.MANIFEST_SUFFIXES and not is_folder:
        return list_files(posixpath.dirname(path))
    return root, found


def list_remote(path: str) -> tuple[str, dict[str, FileMetadata]]:
    """Returns the root and, by their paths relative to it, the objects under a folder, in a glob, or of a name.

    Args:
      path: URI; slashes at its end mean nothing, as in local paths; Beam alone would list what is on top.
    """
    path = path.rstrip("/")
    root = _root_of(path)
    # A bucket alone is no object, and may not be asked for as one.
    matched = _match(path) if "://" in root else []
    if not matched and not glob.has_magic(path):
        root, matched = path, _match(f"{path}/**")
    # An object whose name ends in a slash is how consoles fake an empty folder.
    objects = {item.path[len(root) + 1 :]: item for item in matched if not item.path.endswith("/")}
    return root, {name: item for name, item in objects.items() if not names.is_hidden(name)}


def _match(pattern: str) -> list[FileMetadata]:
    return FileSystems.match([pattern])[0].metadata_list


def _root_of(path: str) -> str:
    """The folder of a file, or the one above the first wildcard of a glob."""
    root = posixpath.dirname(path)
    while glob.has_magic(root):
        root = posixpath.dirname(root)
    return root


def _walk(root: str) -> Iterator[str | names.Reject]:
    """Yields the files under a local folder; links to folders are never entered, so no loop is.

    Raises:
      ValueError: the folder itself cannot be listed. One below it is a reject, whose name ends in a slash.
    """
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if names.is_hidden(entry.name):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    elif entry.is_file(follow_symlinks=False):
                        yield entry.path[len(root) + 1 :]
                    else:
                        yield _checked(entry.path, root)
        except OSError as error:
            if folder == root:
                raise ValueError(
                    f"{root} cannot be listed: {error}. Let whoever runs this list and enter it."
                ) from error
            if os.path.lexists(folder):
                yield names.Reject(names.text(f"{folder}/"), "unreadable", names.text(str(error)))


def _checked(full: str, root: str) -> str | names.Reject:
    """Lets a file pass, or a link to a file within the root; a link out could read anything on the machine."""
    uri = names.text(full)
    target = os.path.realpath(full)
    if Path(full).is_symlink() and not target.startswith(os.path.realpath(root) + os.sep):
        return names.Reject(uri, "link", f"leads out of the source's folder, to {names.text(target)}")
    try:
        mode = Path(full).stat().st_mode
    except OSError as error:
        return names.Reject(uri, "unreadable", names.text(str(error)))
    if stat.S_ISREG(mode):
        return full[len(root) + 1 :]
    return names.Reject(uri, "not_a_file", "a link to a folder, a device or a pipe; it is not followed")


def _find_manifest(source: Source, root: str, files: list[str]) -> str | None:
    if source.manifest:
        return source.manifest if "://" in source.manifest else os.path.abspath(source.manifest)
    path = source.path.rstrip("/") if "://" in source.path else os.path.abspath(source.path)
    if names.suffix(path) in names.MANIFEST_SUFFIXES:
        return path
    if not source.labeled:
        return None
    is_folder = root == path
    beside = files if is_folder else _siblings(root)
    wanted = [f"labels{end}" for end in names.MANIFEST_SUFFIXES]
    if not is_folder:
        base = posixpath.basename(path)
        plain = base.removesuffix(".gz").rpartition(".")[0] if names.archive_kind(base) else names.stem(base)
        wanted += [f"{plain}{end}" for end in names.MANIFEST_SUFFIXES]
    for name in wanted:
        if name in beside:
            return _join(root, name)
    lone = [p for p in beside if "/" not in p and names.suffix(p) in names.MANIFEST_SUFFIXES]
    if is_folder and len(lone) == 1 and labels.is_manifest(_join(root, lone[0])):
        return _join(root, lone[0])
    return None


def _siblings(root: str) -> list[str]:
    if "://" in root:
        return [item.path[len(root) + 1 :] for item in _match(posixpath.join(root, "*"))]
    return os.listdir(root)


def _join(root: str, path: str) -> str:
    return f"{root.rstrip('/')}/{path}"
