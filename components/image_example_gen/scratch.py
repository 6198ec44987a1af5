"""What readers leave for writers: files in the work folder. Beam moves only their names."""

import os
import pickle
import posixpath
import uuid
from collections.abc import Callable
from typing import Any, BinaryIO

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems


def make_folder(uri: str) -> None:
    """Makes the work folder; on a disk its owner alone may enter: pickles in it are run, and it holds all images."""
    if "://" not in uri:
        os.makedirs(uri, exist_ok=True)
        os.chmod(uri, 0o700)


def leave(folder: str, value: Any) -> str:
    """Pickles `value` into a file of its own.

    Nobody learns its name before it is closed, and no two attempts share one: of a reader that is killed or
    run twice there remains at most a file that nothing points at.

    Returns:
      the file's URI.
    """
    uri = posixpath.join(folder, uuid.uuid4().hex)
    with FileSystems.create(uri, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        pickle.dump(value, file)
    return uri


def fetch(uri: str) -> Any:
    """Returns what `leave` was given."""
    with open_bytes(uri) as file:
        return pickle.load(file)


def write_atomically(uri: str, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file of a known name; a retried or rival attempt at it never shows a half-written one."""
    attempt = f"{uri}.{uuid.uuid4().hex}"
    with FileSystems.create(attempt, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        write(file)
    FileSystems.rename([attempt], [uri])


def open_bytes(path: str) -> BinaryIO:
    """Opens a local or remote file for reading as it is, whatever its suffix says of compression."""
    return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
