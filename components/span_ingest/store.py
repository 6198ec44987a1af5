"""The store of spans: `spans/000001/`, `spans/000002/` …, each whole or not there, and up to which one was trained.

    spans/000002/SPAN.json            the marker, written last: there is a span if and only if there is this
    spans/000002/<attempt>/           what the marker speaks of: shards of kept images, and files.jsonl
    trained/000002.json               a run was completed on a window that ends with this span
    ledger.parquet                    a cache, see `ledger`

A run writes into an attempt of its own and then creates the marker, which only one run can: the other's attempt is
nothing. So a kill at any moment leaves a whole span or none, and leftovers, which the next committed span clears.
"""

import dataclasses
import datetime
import json
import posixpath
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import google_crc32c
from pydantic import TypeAdapter, ValidationError

from components.image_example_gen.outcomes import Shard
from components.span_ingest.folder import Folder, open_folder

MARKER, FILES = "SPAN.json", "files.jsonl"
_SPANS, _TRAINED = "spans", "trained"
_DIGITS = 6


class DamagedError(ValueError):
    """Something in the store is not what was written there; the message says what, and what to do."""


@dataclasses.dataclass(frozen=True)
class Counts:
    """What was read of a delivery, and what became of it."""

    read: int
    kept: int
    duplicate: int
    rejected: int

    def __post_init__(self) -> None:
        """Raises RuntimeError unless read = kept + duplicate + rejected."""
        if self.read != self.kept + self.duplicate + self.rejected:
            raise RuntimeError(f"what was read is not kept + duplicate + rejected: {self}")


@dataclasses.dataclass(frozen=True)
class Span:
    """What a marker says of its span.

    Attributes:
      number: from 1.
      attempt: the folder beside the marker that holds the rest.
      counts: of the delivery.
      shards: TFRecords of the kept images; that of an image follows from its hash, see `shard_of`.
      rows: lines of files.jsonl.
      rows_crc32c: of files.jsonl.
      source: path that was read.
      made: when, UTC; for people, nothing is decided by it.
    """

    number: int
    attempt: str
    counts: Counts
    shards: tuple[Shard, ...]
    rows: int
    rows_crc32c: int
    source: str
    made: str

    @property
    def folder(self) -> str:
        """Of the attempt, within the store."""
        return f"{_SPANS}/{self.number:0{_DIGITS}d}/{self.attempt}"

    def shard_of(self, sha256: str) -> int:
        """Position of the shard that holds a kept image, as `image_example_gen.ingest` deals them out."""
        return int(sha256[:8], 16) % len(self.shards)


_SPAN = TypeAdapter(Span)


class SpanStore:
    """A store at a local path or on gs://."""

    def __init__(self, path: str) -> None:
        self.folder: Folder = open_folder(path)

    def uri(self, name: str) -> str:
        """Path or URI of something in the store."""
        return posixpath.join(self.folder.path, name)

    def spans(self) -> list[Span]:
        """All whole spans, in the order of their numbers.

        Raises:
          DamagedError: a marker is not what was written.
        """
        return [self._parse(name) for name in sorted(self.folder.sizes(_SPANS)) if _is_marker(name)]

    def next_number(self, spans: Iterable[Span]) -> int:
        """The number after all of them, and after all that were trained on, though they are here no more."""
        return max([span.number for span in spans] + [self.trained()], default=0) + 1

    def begin(self, number: int) -> str:
        """Returns a folder within the store for an attempt at a span, that no other attempt has."""
        return f"{_SPANS}/{number:0{_DIGITS}d}/{uuid.uuid4().hex}"

    def write_rows(self, attempt: str, rows: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
        """Writes files.jsonl of an attempt; returns its lines and its CRC32C."""
        lines = [json.dumps(row, ensure_ascii=True, separators=(",", ":")) for row in rows]
        content = "".join(f"{line}\n" for line in lines).encode()
        self.folder.replace(f"{attempt}/{FILES}", content)
        return len(lines), google_crc32c.value(content)

    def commit(self, span: Span) -> bool:
        """Makes an attempt the span of its number; False: another run was first, and the attempt is nothing."""
        self.folder.settle(span.folder)
        content = json.dumps(dataclasses.asdict(span), indent=1).encode()
        return self.folder.create(f"{posixpath.dirname(span.folder)}/{MARKER}", content)

    def has(self, number: int) -> bool:
        """Whether there is a span of this number."""
        return self.folder.read(f"{_SPANS}/{number:0{_DIGITS}d}/{MARKER}") is not None

    def abandon(self, attempt: str) -> None:
        """Removes an attempt of one's own."""
        self.folder.remove(attempt)

    def sweep(self) -> list[str]:
        """Removes the attempts at spans that are committed, other than those that are the spans; returns their names.

        One that still runs has lost already: what it then misses makes it look again.
        """
        names = self.folder.sizes(_SPANS)
        committed = {posixpath.dirname(name): self._parse(name).attempt for name in names if _is_marker(name)}
        attempts = {tuple(name.split("/")[:3]) for name in names if name.count("/") >= 3}
        left = [
            "/".join(parts)
            for parts in sorted(attempts)
            if (span := "/".join(parts[:2])) in committed and parts[2] != committed[span]
        ]
        for attempt in left:
            self.folder.remove(attempt)
        self.folder.remove_incoming()
        return left

    def rows(self, span: Span) -> list[dict[str, Any]]:
        """What became of each file of a span's delivery, see `delivery.rows_of`.

        Raises:
          DamagedError: files.jsonl is missing, or not what was written.
        """
        name = f"{span.folder}/{FILES}"
        content = self.folder.read(name)
        if content is None or google_crc32c.value(content) != span.rows_crc32c:
            raise self.damaged(name, "it is missing" if content is None else "its checksum is another")
        lines = content.splitlines()
        if len(lines) != span.rows:
            raise self.damaged(name, f"it has {len(lines)} lines where {span.rows} were written")
        try:
            rows = [json.loads(line) for line in lines]
        except (ValueError, RecursionError) as error:
            raise self.damaged(name, str(error)) from error
        if not all(isinstance(row, dict) and _is_text(row, "path") and _is_text(row, "outcome") for row in rows):
            raise self.damaged(name, "a line is no JSON object with path and outcome")
        return rows

    def trained(self) -> int:
        """The last span that a completed run's window ended with; 0: there was none."""
        names = (posixpath.basename(name).partition(".") for name in self.folder.sizes(_TRAINED))
        return max((int(number) for number, _, end in names if number.isdecimal() and end == "json"), default=0)

    def mark_trained(self, number: int) -> None:
        """Says that a run was completed; saying it again changes nothing."""
        self.folder.create(
            f"{_TRAINED}/{number:0{_DIGITS}d}.json", json.dumps({"span": number, "completed": now()}).encode()
        )

    def damaged(self, name: str, how: str) -> "DamagedError":
        """The error for a file of a span that is not what was written."""
        folder = self.uri("/".join(name.split("/")[:2]))
        return DamagedError(
            f"{self.uri(name)} is not what was written: {how}. Restore it, or remove {folder}: what the source still "
            "has of that span is then ingested anew."
        )

    def _parse(self, name: str) -> Span:
        try:
            span = _SPAN.validate_json(self.folder.read(name) or b"", strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise self.damaged(name, f"{where}: {first['msg']}" if where else first["msg"]) from error
        except RuntimeError as error:
            raise self.damaged(name, str(error)) from error
        if f"{_SPANS}/{span.number:0{_DIGITS}d}/{MARKER}" != name:
            raise self.damaged(name, f"it tells of span {span.number}")
        if span.counts.kept != sum(shard.records for shard in span.shards):
            raise self.damaged(name, f"{span.counts.kept} images were kept, and its shards hold another number")
        if any("/" in part or part in ("", ".", "..") for part in (span.attempt, *(s.name for s in span.shards))):
            raise self.damaged(name, "a name in it leads out of the span's folder")
        return span


def now() -> str:
    """The time, UTC, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def _is_text(row: Mapping[str, Any], name: str) -> bool:
    return isinstance(row.get(name), str)


def _is_marker(name: str) -> bool:
    return posixpath.basename(name) == MARKER and name.count("/") == 2
