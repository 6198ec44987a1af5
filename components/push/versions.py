"""The directory that models are pushed to: 1/, 2/, 3/ …, and CHAMPION, the number of the best of them."""

import contextlib
import dataclasses
import fcntl
import functools
import json
import posixpath
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tfx.dsl.io import fileio

from components.push import pointer
from components.push.fingerprint import FINGERPRINT_FILE, recorded_fingerprint
from components.push.history import FOUND, PROMOTED, History, last_champion, was_promoted
from components.push.pointer import ADDED_FOLDER
from components.push.publishing import (
    Additions,
    publish_by_rename,
    publish_model_file_last,
    remove_leftovers,
)
from components.push.rivals import OvertakenError
from components.span_ingest.folder import Folder, open_folder

RECORD_FILE = f"{ADDED_FOLDER}/record.json"
_LOCK_FILE = ".lock"


class VersionedDirectory:
    """A directory of numbered SavedModels as TensorFlow Serving reads it.

    On a local disk, pushes exclude each other by a lock and a version appears by one rename. On an object store there
    is neither: a version is whole when it has its saved_model.pb, and its number belongs to the push that created its
    fingerprint, which only one can. So a number that a killed push has begun is never used again, and two pushes at
    once leave two whole versions. The pointer moves only from where it stood when the push began: the second push is
    overtaken, and decides again.
    """

    def __init__(self, path: str):
        """Points at a directory, which need not exist.

        Args:
          path: local path or URL such as gs://bucket/models.
        """
        self._is_remote = "://" in path
        self.path = path.rstrip("/") if self._is_remote else str(Path(path).absolute())
        self._pointer: bytes | None = None  # as it was read by the one who may move it

    @functools.cached_property
    def _folder(self) -> Folder:
        return open_folder(self.path)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Waits for other pushes to end, removes what killed ones left, and keeps others out meanwhile.

        The lock is the operating system's and goes with its process, so that a killed push holds nobody up. On an
        object store it only remembers where the pointer stands, so that `crown` sees whether others have moved it.
        """
        with contextlib.nullcontext() if self._is_remote else self._locked():
            self._pointer = self._folder.read(pointer.CHAMPION_FILE)
            yield

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        directory = Path(self.path)
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / _LOCK_FILE).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            remove_leftovers(directory)
            yield

    def path_of(self, version: int) -> str:
        """Says where a version is, or would be."""
        return pointer.path_of(self.path, version)

    def versions(self) -> list[int]:
        """Lists the whole versions, ascending."""
        return pointer.versions(self.path)

    def champion(self) -> int | None:
        """Reads which version is the best; see `pointer.champion`."""
        return pointer.named(self.path, self._folder.read(pointer.CHAMPION_FILE))

    def crown(self, version: int) -> None:
        """Points CHAMPION at a version; touches nothing if it does already. Only within `exclusive`.

        Raises:
          OvertakenError: it no longer stands where it stood when `exclusive` began.
        """
        if self._pointer is not None and pointer.named(self.path, self._pointer) == version:
            return
        moved = f"{version}\n".encode()
        if not self._folder.swap(pointer.CHAMPION_FILE, self._pointer, moved):
            raise OvertakenError(posixpath.join(self.path, pointer.CHAMPION_FILE))
        self._pointer = moved

    def find(self, wanted: str) -> int | None:
        """Finds the newest version that has a fingerprint."""
        return next(
            (
                version
                for version in reversed(self.versions())
                if recorded_fingerprint(self.path_of(version)) == wanted
            ),
            None,
        )

    def add(
        self,
        model_path: str,
        *,
        model_fingerprint: str,
        record: Mapping[str, Any] | None = None,
        copies: Mapping[str, str] | None = None,
    ) -> int:
        """Publishes a SavedModel as the next version.

        Args:
          model_path: directory of the SavedModel, local or remote.
          model_fingerprint: its fingerprint.
          record: what `record` shall tell of the version until `record_anew`, JSON values.
          copies: files to keep with it, by their paths in ADDED_FOLDER.

        Returns:
          The number of the new version: one more than the largest so far.
        """
        version = max(pointer.numbers(self.path), default=0) + 1
        additions = Additions(
            texts={RECORD_FILE: _record_text(record or {})},
            copies={posixpath.join(ADDED_FOLDER, name): source for name, source in (copies or {}).items()},
        )
        if self._is_remote:
            version = self._claim(version, model_fingerprint)
            publish_model_file_last(model_path, self.path_of(version), additions)
        else:
            additions = dataclasses.replace(additions, texts={FINGERPRINT_FILE: model_fingerprint, **additions.texts})
            publish_by_rename(model_path, Path(self.path_of(version)), additions)
        return version

    def _claim(self, version: int, model_fingerprint: str) -> int:
        """Takes the first number from `version` on that no other push has taken meanwhile."""
        while not self._folder.create(f"{version}/{FINGERPRINT_FILE}", model_fingerprint.encode()):
            version += 1
        return version

    def record_anew(self, version: int, record: Mapping[str, Any]) -> None:
        """Replaces what is told of a version that is there: it was decided on again."""
        self._folder.replace(f"{version}/{RECORD_FILE}", _record_text(record).encode())

    def record(self, version: int) -> dict[str, Any]:
        """What was recorded when a version was decided on last; empty where another tool has put it there."""
        path = posixpath.join(self.path_of(version), RECORD_FILE)
        if not fileio.exists(path):
            return {}
        with fileio.open(path, "r") as file:
            return json.load(file)

    def history(self) -> History:
        """The decisions about this folder, brought up to the pointer. Only within `exclusive`."""
        history = History(self._folder)
        entries, champion = history.entries(), self.champion()
        told = last_champion(entries)
        if champion is None or champion == told:
            return history
        record = self.record(champion)
        if "reason" in record and not was_promoted(entries, champion):
            # The push was killed before it could write its line; what it had decided lies beside the model.
            told_late = {**record, "reason": f"Pushed as version {champion}: {record['reason']}"}
            history.append(PROMOTED, champion=champion, former=told, **told_late)
        else:
            reason = f"{pointer.CHAMPION_FILE} stands at version {champion}, of which no decision tells."
            history.append(FOUND, champion=champion, former=told, reason=reason)
        return history


def _record_text(record: Mapping[str, Any]) -> str:
    return json.dumps(record, indent=1)
