"""A folder of whole files, on a disk or in a bucket: files appear at once, and of two rivals one creates.

Beam's file systems and TFX's fileio know no "create it if it is not there", which is what makes a claim of two runs
have one winner; so a bucket is reached by Google's own client, with a precondition on the object's generation.
"""

import base64
import contextlib
import functools
import os
import posixpath
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

import google_crc32c

_PIECE_BYTES = 2**22
_GS = "gs://"
# What a write leaves that is killed; a leading dot keeps it out of listings.
_INCOMING = ".incoming-"
_ABANDONED_S = 24 * 3600
_FIRST_WAIT_S, _PATIENCE_S = 0.2, 60.0
_Result = TypeVar("_Result")


class Folder(Protocol):
    """Files by their names relative to the folder, with slashes."""

    path: str

    def sizes(self, below: str) -> dict[str, int]:
        """Names and sizes of all files below a name."""

    def read(self, name: str) -> bytes | None:
        """A whole file; None: there is none."""

    def create(self, name: str, content: bytes) -> bool:
        """Writes a file that is not there yet, whole or not at all; False: it was there, and stays as it was."""

    def replace(self, name: str, content: bytes) -> None:
        """Writes a file, whole or not at all, whether or not one was there."""

    def swap(self, name: str, before: bytes | None, content: bytes) -> bool:
        """Writes a file, whole or not at all, if it holds `before`, or is not there (None); False: it stays as it is.

        On a disk only for the holder of a lock, since it may change between the look and the write.
        """

    def settle(self, below: str) -> None:
        """Makes what was written below a name outlast a loss of power."""

    def remove(self, below: str) -> None:
        """Removes all files below a name; what has gone already is no error."""

    def remove_incoming(self) -> None:
        """Removes what writes that were killed a day ago or more have left."""

    def copy_out(self, name: str, target: str) -> int:
        """Copies a file to a path or URI outside, and returns the CRC32C of what was copied."""

    def open(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]:
        """Opens a file for reading."""


def open_folder(path: str) -> Folder:
    """Returns the folder at a local path or at gs://bucket/name.

    Raises:
      ValueError: for another kind of URI.
    """
    if path.startswith(_GS):
        return BucketFolder(path)
    if "://" in path:
        raise ValueError(f"{path}: the spans are kept on a local disk or on gs://; give one of the two.")
    return LocalFolder(path)


class LocalFolder:
    """On a disk whose file system has hard links: by one, a file that is whole gets its name if that is free."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)

    def sizes(self, below: str) -> dict[str, int]:
        found = {}
        for folder, _, names in os.walk(self._full(below)):
            for name in names:
                full = os.path.join(folder, name)
                # One that a rival run removes meanwhile is not there any more.
                with contextlib.suppress(FileNotFoundError):
                    if not name.startswith(_INCOMING):
                        found[os.path.relpath(full, self.path)] = os.stat(full).st_size
        return found

    def read(self, name: str) -> bytes | None:
        try:
            return Path(self._full(name)).read_bytes()
        except FileNotFoundError:
            return None

    def create(self, name: str, content: bytes) -> bool:
        with self._incoming(name, content) as incoming:
            try:
                os.link(incoming, self._full(name))
            except FileExistsError:
                return False
            _flush(os.path.dirname(incoming))
        return True

    def replace(self, name: str, content: bytes) -> None:
        with self._incoming(name, content) as incoming:
            os.replace(incoming, self._full(name))
            _flush(os.path.dirname(incoming))

    def swap(self, name: str, before: bytes | None, content: bytes) -> bool:
        unchanged = self.read(name) == before
        if unchanged:
            self.replace(name, content)
        return unchanged

    def settle(self, below: str) -> None:
        for folder, _, names in os.walk(self._full(below)):
            for name in names:
                _flush(os.path.join(folder, name))
            _flush(folder)

    def remove(self, below: str) -> None:
        shutil.rmtree(self._full(below), ignore_errors=True)

    def remove_incoming(self) -> None:
        for folder, _, names in os.walk(self.path):
            for name in names:
                full = os.path.join(folder, name)
                with contextlib.suppress(FileNotFoundError):
                    if name.startswith(_INCOMING) and os.stat(full).st_mtime < time.time() - _ABANDONED_S:
                        os.unlink(full)

    def copy_out(self, name: str, target: str) -> int:
        # No hard link: who damages an artifact must not damage the only copy that outlives the source.
        with self.open(name) as source:
            return copy_stream(source, target)

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        with open(self._full(name), "rb") as file:
            yield file

    def _full(self, name: str) -> str:
        return os.path.join(self.path, name)

    @contextlib.contextmanager
    def _incoming(self, name: str, content: bytes) -> Iterator[str]:
        folder = os.path.dirname(self._full(name))
        os.makedirs(folder, exist_ok=True)
        incoming = os.path.join(folder, f"{_INCOMING}{uuid.uuid4().hex}")
        try:
            with open(incoming, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            yield incoming
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(incoming)


def _to_the_end(method: Callable[..., _Result]) -> Callable[..., _Result]:
    """Calls a method of a BucketFolder again where the connection ended in the middle of an answer.

    Google's client tells a download by its checksum then, anything else by broken JSON, and tries neither again.
    """

    @functools.wraps(method)
    def call(self: "BucketFolder", *arguments: Any) -> _Result:
        return self._again(functools.partial(method, self, *arguments))()

    return call


class BucketFolder:
    """In a bucket: objects appear whole, and are created under the condition that there is no generation of them."""

    def __init__(self, path: str) -> None:
        # Brings Google's client, which a run on a local disk need not load.
        from google.api_core import retry
        from google.cloud import storage
        from google.resumable_media.common import DataCorruption
        from requests.exceptions import JSONDecodeError

        cut_short = retry.if_exception_type(DataCorruption, JSONDecodeError)
        self._again = retry.Retry(cut_short, initial=_FIRST_WAIT_S, timeout=_PATIENCE_S)
        self.path = path.rstrip("/")
        bucket, _, prefix = self.path.removeprefix(_GS).partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        # Objects belong to buckets: of what project the client is, nothing here asks.
        self._client = storage.Client(project=None)
        self._bucket = self._client.bucket(bucket)

    @_to_the_end
    def sizes(self, below: str) -> dict[str, int]:
        fields = "items(name,size),nextPageToken"
        blobs = self._client.list_blobs(self._bucket, prefix=f"{self._prefix}{below}/", fields=fields)
        return {blob.name[len(self._prefix) :]: blob.size for blob in blobs}

    @_to_the_end
    def read(self, name: str) -> bytes | None:
        from google.api_core.exceptions import NotFound

        try:
            return self._blob(name).download_as_bytes()
        except NotFound:
            return None

    @_to_the_end
    def create(self, name: str, content: bytes) -> bool:
        from google.api_core.exceptions import PreconditionFailed

        try:
            self._blob(name).upload_from_string(content, if_generation_match=0)
        except PreconditionFailed:
            # A first attempt whose answer was lost makes a second one fail: then it is there, and ours.
            return self.read(name) == content
        return True

    @_to_the_end
    def replace(self, name: str, content: bytes) -> None:
        from google.cloud.storage.retry import DEFAULT_RETRY

        # By default only conditional uploads are tried again; this one may be written twice.
        self._blob(name).upload_from_string(content, retry=DEFAULT_RETRY)

    @_to_the_end
    def swap(self, name: str, before: bytes | None, content: bytes) -> bool:
        if before is None:
            return self.create(name, content)
        from google.api_core.exceptions import NotFound, PreconditionFailed

        blob = self._blob(name)
        try:
            blob.reload()
            unchanged = {"if_generation_match": blob.generation}
            if blob.download_as_bytes(**unchanged) == before:
                self._blob(name).upload_from_string(content, **unchanged)
                return True
        except (NotFound, PreconditionFailed):
            pass
        # As with `create`: what an attempt wrote whose answer was lost is ours.
        return self.read(name) == content

    def settle(self, below: str) -> None:
        """A bucket has what it said that it has."""

    @_to_the_end
    def remove(self, below: str) -> None:
        from google.api_core.exceptions import NotFound
        from google.cloud.storage.retry import DEFAULT_RETRY

        for name in self.sizes(below):
            with contextlib.suppress(NotFound):
                # By default not tried again, since it may have been done; then it is gone, which is what is wanted.
                self._blob(name).delete(retry=DEFAULT_RETRY)

    def remove_incoming(self) -> None:
        """A bucket shows nothing of an upload that was broken off."""

    @_to_the_end
    def copy_out(self, name: str, target: str) -> int:
        if not target.startswith(_GS):
            with self.open(name) as source:
                return copy_stream(source, target)
        from google.api_core.exceptions import NotFound
        from google.cloud import storage
        from google.cloud.storage.retry import DEFAULT_RETRY

        copy = storage.Blob.from_string(target, client=self._client)
        token, source = None, self._blob(name)
        while True:
            try:
                # Within the store: no byte of it comes through here.
                token, _, _ = copy.rewrite(source, token=token, retry=DEFAULT_RETRY)
            except NotFound as error:
                raise FileNotFoundError(name) from error
            if token is None:
                break
        copy.reload()
        return int.from_bytes(base64.b64decode(copy.crc32c), "big")

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        from google.api_core.exceptions import NotFound

        try:
            with self._blob(name).open("rb") as file:
                yield file
        except NotFound as error:
            raise FileNotFoundError(name) from error

    def _blob(self, name: str):
        return self._bucket.blob(f"{self._prefix}{name}")


def copy_stream(source: BinaryIO, target: str) -> int:
    """Writes all that a file holds to a path or URI, and returns its CRC32C."""
    from components.image_example_gen import scratch

    checksum = 0

    def write(file: BinaryIO) -> None:
        nonlocal checksum
        while piece := source.read(_PIECE_BYTES):
            checksum = google_crc32c.extend(checksum, piece)
            file.write(piece)

    if "://" not in target:
        os.makedirs(posixpath.dirname(target), exist_ok=True)
    scratch.write_atomically(target, write)
    return checksum


def _flush(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
