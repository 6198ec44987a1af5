"""The window: which spans are pretrained on, how much of each, and their shards as one set of examples."""

import collections
import dataclasses
import hashlib
import posixpath
from collections.abc import Collection, Sequence
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from components.image_example_gen import scratch
from components.image_example_gen.examples import BrokenRecordsError, Example, read_records, write_record
from components.image_example_gen.outcomes import Shard
from components.span_ingest.ledger import Ledger
from components.span_ingest.store import Span, SpanStore


@dataclasses.dataclass(frozen=True)
class Part:
    """A span of the window, and the share of its images that is in it, above 0 and at most 1."""

    span: Span
    share: float


@dataclasses.dataclass(frozen=True)
class Share:
    """What of a span is in the window, by the hashes of its images.

    Attributes:
      span: that it is of.
      tested_on: left out, since the test split of today holds them.
      repeated: left out, since an earlier span of the window holds them too.
      sampled_out: left out by the part's share.
    """

    span: Span
    tested_on: frozenset[str]
    repeated: frozenset[str]
    sampled_out: frozenset[str]

    @property
    def left_out(self) -> frozenset[str]:
        """All that is not in the window."""
        return self.tested_on | self.repeated | self.sampled_out

    @property
    def images(self) -> int:
        """How many are in the window."""
        return self.span.counts.kept - len(self.tested_on) - len(self.repeated) - len(self.sampled_out)


def choose(
    spans: Sequence[Span], *, trained: int, last: int | None, half_life_spans: float | None = None
) -> list[Part]:
    """The spans that are pretrained on: all that is new, and what is not yet too old.

    The age of a span is the number of spans with images that came after it. Those that no completed run was trained
    on count as one, of age 0, however many have waited: so each of their images is trained on before it is old.
    Spans without images age nothing; they are here for what their deliveries' accounts say.

    Args:
      spans: all, in the order of their numbers.
      trained: number of the last span of a completed run's window.
      last: a span of this age or older is left out; None: none is.
      half_life_spans: a span whose age is larger by that gives half the share; None: all give all their images.
    """
    parts, younger = [], 0
    for span in reversed(spans):
        is_new = span.number > trained
        age = 0 if is_new else younger
        if last is not None and age >= last:
            break
        parts.append(Part(span, 1.0 if half_life_spans is None else 0.5 ** (age / half_life_spans)))
        if span.counts.kept:
            younger = 1 if is_new else younger + 1
    return parts[::-1]


def is_sampled(sha256: str, share: float, *, seed: int) -> bool:
    """Whether an image is in a share of its span, by nothing else: so a smaller share is part of a larger one."""
    if share >= 1:
        return True
    digest = hashlib.sha256(f"window:{seed}:{sha256}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < share


def shares(ledger: Ledger, parts: Sequence[Part], *, tested_on: Collection[str], seed: int) -> list[Share]:
    """Says which images are in the window; each content is once.

    Args:
      ledger: that tells of all spans.
      parts: of the window.
      tested_on: hashes of the images of the test split. Ingestion leaves its copies out of spans, but a test split
        may grow.
      seed: of the shares.
    """
    kept = ledger.kept(part.span.number for part in parts)
    hashes, spans = kept["sha256"].combine_chunks(), kept["span"].combine_chunks()
    is_tested = pc.is_in(hashes, value_set=pa.array(sorted(tested_on), pa.string()))
    is_first = pc.equal(pc.index_in(hashes, value_set=hashes), pa.array(range(len(hashes)), pa.int32()))
    is_repeated = pc.invert(pc.or_(is_first, is_tested))
    is_free = pc.and_(is_first, pc.invert(is_tested))
    found = []
    for part in parts:
        mine = pc.equal(spans, part.span.number)
        tested, repeated, free = (
            frozenset(hashes.filter(pc.and_(mine, flag)).to_pylist()) for flag in (is_tested, is_repeated, is_free)
        )
        sampled_out = frozenset(sha256 for sha256 in free if not is_sampled(sha256, part.share, seed=seed))
        found.append(Share(part.span, tested, repeated, sampled_out))
    return found


def hashes_in(files: Sequence[str]) -> set[str]:
    """The hashes of the images in TFRecords of raw Examples."""
    found = set()
    for uri in files:
        compression = CompressionTypes.GZIP if uri.endswith(".gz") else CompressionTypes.UNCOMPRESSED
        with FileSystems.open(uri, compression_type=compression) as file:
            found.update(_sha256(record) for record in read_records(file, max_record_bytes=2**62))
    return found


def lay_out(store: SpanStore, window: Sequence[Share], target: str) -> None:
    """Puts the images of the window into one folder of TFRecords.

    A shard of which all images are in the window is copied as it is, in a bucket without a byte coming through here;
    of another one its records are.

    Args:
      store: of the spans.
      window: what of them.
      target: path or URI of the folder.

    Raises:
      DamagedError: a shard is not what was written.
    """
    n_shards, number = sum(len(share.span.shards) for share in window), 0
    if not n_shards:
        # Who reads examples takes a split without a file for a mistake.
        scratch.write_atomically(posixpath.join(target, "data_tfrecord-00000-of-00001"), lambda _: None)
    for share in window:
        out: dict[int, set[str]] = collections.defaultdict(set)
        for sha256 in share.left_out:
            out[share.span.shard_of(sha256)].add(sha256)
        for position, shard in enumerate(share.span.shards):
            uri = posixpath.join(target, f"data_tfrecord-{number:05d}-of-{n_shards:05d}")
            number += 1
            name = f"{share.span.folder}/{shard.name}"
            if position in out:
                _copy_without(store, name, shard, uri, out=out[position])
            else:
                _copy(store, name, shard, uri)


def _sha256(record: bytes) -> str:
    return Example.FromString(record).features.feature["sha256"].bytes_list.value[0].decode()


def _copy(store: SpanStore, name: str, shard: Shard, uri: str) -> None:
    try:
        is_whole = store.folder.copy_out(name, uri) == shard.crc32c
    except FileNotFoundError as error:
        raise store.damaged(name, "it is missing") from error
    if not is_whole:
        raise store.damaged(name, "its checksum is another")


def _copy_without(store: SpanStore, name: str, shard: Shard, uri: str, *, out: Collection[str]) -> None:
    read = written = 0

    def write(target: BinaryIO) -> None:
        nonlocal read, written
        with store.folder.open(name) as source:
            for record in read_records(source, max_record_bytes=2**62):
                read += 1
                if _sha256(record) not in out:
                    written += 1
                    write_record(target, record)

    try:
        scratch.write_atomically(uri, write)
    except (BrokenRecordsError, FileNotFoundError) as error:
        raise store.damaged(name, str(error)) from error
    if read != shard.records or written != shard.records - len(out):
        raise store.damaged(name, f"it holds {read} records, {read - written} of those that are left out")
