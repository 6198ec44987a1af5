"""What must hold of a run's folder at any moment, whatever happened before: asked of the files, from outside."""

import json
import sqlite3
import threading
from pathlib import Path

import contents
from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration import metadata

_LIVE = metadata_store_pb2.Artifact.LIVE
_PENDING = metadata_store_pb2.Artifact.PENDING


def check_metadata(output: Path) -> None:
    """The metadata store is whole, and what it says is there is there."""
    path = output / "metadata.sqlite"
    if not path.exists():
        return
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        [tables] = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    connection.close()
    if not tables:  # killed before the first of them
        return
    for artifact in _store(path).get_artifacts():
        if artifact.state in (_LIVE, _PENDING):
            assert _has_files(Path(artifact.uri)), f"{artifact.uri} is in the metadata and not on the disk"


def _store(path: Path) -> MetadataStore:
    return MetadataStore(metadata.sqlite_metadata_connection_config(str(path)))


def _has_files(folder: Path) -> bool:
    return any(path.is_file() for path in folder.rglob("*"))


def check_accounts(output: Path) -> int:
    """No image is lost by the accounts: read = kept + duplicate + rejected in each. Shards are not looked into.

    Returns:
        How many accounts there are.
    """
    accounts = list(output.glob("artifacts/*/summary/*/summary.json"))
    for path in accounts:
        for counts in json.loads(path.read_text()).values():
            assert counts["read"] == counts["kept"] + counts["duplicate"] + counts["rejected"], path
    return len(accounts)


def final_artifacts(output: Path) -> dict[str, str]:
    """What the last run ended with: digests of the files of each output of each node, by node, output and path.

    They are those of the newest artifacts, in whatever folder.
    """
    store, newest = _store(output / "metadata.sqlite"), {}
    for artifact in sorted(store.get_artifacts(), key=lambda artifact: artifact.id):
        if artifact.state == _LIVE:
            folder = Path(artifact.uri)
            newest["/".join(folder.parts[-3:-1])] = folder
    return {
        f"{name}/{path.relative_to(folder).as_posix()}": contents.digest(path, output)
        for name, folder in newest.items()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith("events.")
    }


def pushed(output: Path) -> dict[str, str]:
    """Digests of the files of all pushed versions, of the pointer and of the history."""
    folder = output / "pushed"
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: contents.digest(path, output) for name, path in found.items() if not name.startswith(".")}


class Watch:
    """Looks at a folder of pushed models from outside, over and over, for as long as the block lasts.

    A version that is seen must be whole, at every moment: all its files are there and as long as they ever get. The
    pointer names a version that is there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look_on)
        self._first_seen: dict[str, dict[str, int]] = {}
        self.faults: list[str] = []
        self.looks = 0

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()
        for version, seen in self._first_seen.items():
            now = _sizes(self._folder / version)
            if now != seen:
                self.faults.append(f"version {version} was seen as {seen} and ended as {now}")

    def _look_on(self) -> None:
        while not self._stop.wait(0.0005):
            self.looks += 1
            pointer = self._folder / "CHAMPION"
            # The pointer first: what it names was there before.
            champion = pointer.read_text().strip() if pointer.exists() else None
            if champion is not None and not (self._folder / champion / "saved_model.pb").exists():
                self.faults.append(f"CHAMPION says {champion!r}, which is not there")
            versions = [path.name for path in self._folder.glob("[0-9]*")]
            for version in versions:
                if version not in self._first_seen:
                    self._first_seen[version] = _sizes(self._folder / version)


def _sizes(version: Path) -> dict[str, int]:
    return {
        path.relative_to(version).as_posix(): path.stat().st_size for path in version.rglob("*") if path.is_file()
    }
