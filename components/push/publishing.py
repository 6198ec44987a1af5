"""Copies a SavedModel to its final place so that a kill at any moment leaves the whole of it or nothing."""

import dataclasses
import os
import posixpath
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

from tfx.dsl.io import fileio

from components.push.fingerprint import model_files
from components.push.pointer import MODEL_FILE

# A leading dot hides it from servers, which look for numbers.
_INCOMING_PREFIX = ".incoming-"


@dataclasses.dataclass(frozen=True)
class Additions:
    """Files that a version gets beside the model's own, by their paths in it.

    Attributes:
      texts: what to write.
      copies: what to copy, local or remote.
    """

    texts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    copies: Mapping[str, str] = dataclasses.field(default_factory=dict)


def publish_by_rename(model_path: str, target: Path, additions: Additions) -> None:
    """Copies beside the target, flushes to disk, and renames: for file systems where a rename is atomic.

    Args:
      model_path: directory of the SavedModel, local or remote.
      target: local directory that doesn't exist yet, in one that does.
      additions: written into the copy, its fingerprint among them.
    """
    incoming = _incoming_beside(target)
    for relative, source in {**_copies(model_path), **additions.copies}.items():
        _copy_to_disk(source, incoming / relative)
    for relative, text in additions.texts.items():
        _write_to_disk(text.encode(), incoming / relative)
    for directory, _, _ in os.walk(incoming):
        _flush_directory(Path(directory))
    incoming.rename(target)
    _flush_directory(target.parent)


def publish_model_file_last(model_path: str, target: str, additions: Additions) -> None:
    """Copies saved_model.pb after everything else: for object stores, where a directory cannot be renamed at once.

    Loaders and servers take a directory for a SavedModel when it holds that file (as tfx.components.pusher does).

    Args:
      model_path: directory of the SavedModel, local or remote.
      target: directory that doesn't exist yet.
      additions: written beside the copy, its fingerprint among them.
    """
    for relative, text in additions.texts.items():
        write_object(text, posixpath.join(target, relative))
    copies = {**additions.copies, **_copies(model_path)}
    for relative, source in sorted(copies.items(), key=lambda copy: copy[0] == MODEL_FILE):
        destination = posixpath.join(target, relative)
        fileio.makedirs(posixpath.dirname(destination))
        fileio.copy(source, destination)


def write_object(text: str, target: str) -> None:
    """Writes a small object; stores make objects visible whole."""
    fileio.makedirs(posixpath.dirname(target))
    with fileio.open(target, "w") as file:
        file.write(text)


def remove_leftovers(directory: Path) -> None:
    """Removes what killed pushes have left behind. Only for the holder of the directory's lock."""
    for leftover in directory.glob(f"{_INCOMING_PREFIX}*"):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


def _copies(model_path: str) -> dict[str, str]:
    return {relative: posixpath.join(model_path, relative) for relative in model_files(model_path)}


def _incoming_beside(target: Path) -> Path:
    return target.with_name(f"{_INCOMING_PREFIX}{uuid.uuid4().hex}")


def _copy_to_disk(source: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with fileio.open(source, "rb") as reader, target.open("wb") as writer:
        shutil.copyfileobj(reader, writer)
        writer.flush()
        os.fsync(writer.fileno())


def _write_to_disk(content: bytes, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as writer:
        writer.write(content)
        writer.flush()
        os.fsync(writer.fileno())


def _flush_directory(directory: Path) -> None:
    """Makes the names in a directory durable, as fsync of a file doesn't."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
