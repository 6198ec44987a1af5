"""A look at the sources before anything runs: do they exist, have they changed, can a batch be filled."""

import collections
import hashlib
import os
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass

from apache_beam.io.filesystems import FileSystems

from components.image_example_gen import sources
from pipeline.config import DataConfig, PipelineConfig
from trainer.config import ConfigError

_COUNTED_ARCHIVE_BYTES = 2**30  # to list a larger archive takes longer than a user waits for a refusal
_DIGEST_LENGTH = 16


@dataclass(frozen=True)
class SourceLook:
    """What a look at a source's listing tells.

    Attributes:
        fingerprint: changes when a file is added, removed or written again.
        at_most: images that it can hold; None where only reading it would tell.
    """

    fingerprint: str
    at_most: int | None


def inspect(config: PipelineConfig) -> dict[str, SourceLook]:
    """Looks at the unlabeled and at the labelled images (the test images with them).

    Of unlabeled images that become spans `outlook` tells more; they may also be none.

    Raises:
        ConfigError: a source is not there, or a batch is larger than the set that fills it.
    """
    looks = {
        "labeled": _look([_source(config.data, name) for name in ("labeled", "test") if getattr(config.data, name)]),
    }
    if config.retrain.store:
        return looks
    looks["unlabeled"] = _look([_source(config.data, "unlabeled")])
    batch_size, at_most = config.pretrain.batch_size, looks["unlabeled"].at_most
    if batch_size and at_most is not None and batch_size > at_most:
        raise ConfigError(
            f"pretrain.batch_size = {batch_size}: must be at most the number of images in data.unlabeled, "
            f"which are {at_most} or fewer"
        )
    return looks


def _source(data: DataConfig, name: str) -> sources.Source:
    manifest = None if name == "unlabeled" else getattr(data, f"{name}_manifest")
    split = "test" if name == "test" else "train"
    return sources.Source(name, getattr(data, name), split, name != "unlabeled", manifest)


def _look(wanted: list[sources.Source]) -> SourceLook:
    digest = hashlib.sha256()
    counts: list[int | None] = []
    for source in wanted:
        try:
            source, work = sources.plan(source)
        except ValueError as error:
            raise ConfigError(f"data.{source.name}: {error}") from error
        if source.manifest and not FileSystems.exists(source.manifest):
            raise ConfigError(f"data.{source.name}_manifest: {source.manifest} does not exist; give a file, or null")
        for line in sorted(_states(source, work)):
            digest.update(line.encode(errors="surrogateescape"))
        counts += [_count(item) for item in work]
    at_most = None if None in counts else sum(counts)
    return SourceLook(digest.hexdigest()[:_DIGEST_LENGTH], at_most)


def _states(source: sources.Source, work: list[sources.Work]) -> Iterator[str]:
    """One line for each file: path, size, time of the last change; of one that is gone since it was listed, less."""
    paths = collections.defaultdict(set)
    for item in work:
        paths[item.root] |= {os.path.join(item.root, entry.path) for entry in item.entries if _is_entry(entry)}
    if source.manifest:
        paths[os.path.dirname(source.manifest)].add(source.manifest)
    for root, below in paths.items():
        yield from _remote_states(root, below) if "://" in root else map(_local_state, below)


def _remote_states(root: str, paths: set[str]) -> Iterator[str]:
    found = {
        item.path: f"{item.size_in_bytes}\0{item.last_updated_in_seconds}" for item in sources.look_again(root, paths)
    }
    return (f"{path}\0{found.get(path, 'gone')}\n" for path in paths)


def _local_state(path: str) -> str:
    try:
        state = os.stat(path)
    except OSError as error:
        # Gone since it was listed, or in a folder that may not be entered: ingestion says what becomes of it.
        return f"{path}\0{error.errno}\n"
    return f"{path}\0{state.st_size}\0{state.st_mtime_ns}\n"


def _count(work: sources.Work) -> int | None:
    if work.kind in ("files", "rejects"):
        return len(work.entries)
    path = os.path.join(work.root, work.entries[0].path)
    if work.kind == "tfrecords" or "://" in path:
        return None
    try:
        if os.path.getsize(path) > _COUNTED_ARCHIVE_BYTES:
            return None
        if work.kind == "zip":
            with zipfile.ZipFile(path) as archive:
                return len(archive.infolist())
        with tarfile.open(path) as archive:
            return sum(1 for _ in archive)
    except (OSError, tarfile.TarError, zipfile.BadZipFile):
        return None  # broken or gone: ingestion keeps what it can of it and says so


def _is_entry(entry: object) -> bool:
    return isinstance(entry, sources.Entry)
