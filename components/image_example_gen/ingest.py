"""The Beam pipeline: work items → decoded records, grouped by content → one file a split and bucket.

No TFX, no TensorFlow: this is what a Beam worker imports. Images go from readers to writers in files of the work
folder, and Beam's elements are the names of those files: few, small, and the same on one machine and on many.
"""

import collections
import dataclasses
import functools
import hashlib
import math
import pickle
import posixpath
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import apache_beam as beam
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.transforms.window import GlobalWindows

from components.image_example_gen import archives, decode, dedupe, labels, names, outcomes, scratch, sources, summary
from components.image_example_gen.examples import Example, read_records, serialise

# What is read goes on to the writers at whichever comes first, so that a big archive is never held whole.
_OUTBOX_ITEMS = 16_384
_OUTBOX_BYTES = 32 * 2**20
# A file may spend 8 bytes on a pixel (16-bit RGBA, not compressed) and 1 MiB on everything else.
_BYTES_PER_PIXEL = 8
_METADATA_BYTES = 2**20
# Of a shard, about: a writer holds one in memory, and Beam runs as many writers as there are workers.
SHARD_BYTES = 256 * 2**20
_BATCHES = "batches"
_CLAIMS = "claims"
_READS = "reads"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What readers and writers need to know, beside their input."""

    splits: tuple[str, ...]
    # The folder of each split, in the order of `splits`, and one for what must not outlive the run.
    split_uris: tuple[str, ...]
    work_uri: str
    num_shards: int
    max_pixels: int
    holdout_fraction: float
    # Of the images that are one span of many: what became of each is told, and each key is unlike that of any other
    # content, in whatever span.
    is_span: bool = False
    # Whether the perceptual hash of each kept image is told as well.
    with_perceptual_hash: bool = False
    # What `scratch.leave` was given of earlier runs' splits, by content, where these outlive the run.
    splits_uri: str | None = None

    @property
    def max_bytes(self) -> int:
        """The most bytes that are ever read of one image."""
        return self.max_pixels * _BYTES_PER_PIXEL + _METADATA_BYTES

    @property
    def every_key_has_suffix(self) -> bool:
        """Whether later runs see other images of the same store, among which a key may be contested then."""
        return self.is_span or self.splits_uri is not None


@dataclasses.dataclass
class Batch:
    """What one reader leaves for one writer."""

    records: list[dedupe.Record] = dataclasses.field(default_factory=list)
    rejects: list[tuple[str, names.Reject]] = dataclasses.field(default_factory=list)
    excluded: list[str] = dataclasses.field(default_factory=list)
    known: list[tuple[str, int]] = dataclasses.field(default_factory=list)


class Read(NamedTuple):
    """A reader's own count of a work item, which takes another way than the images it counts."""

    work: int
    source: str
    images: int


@dataclasses.dataclass
class Part:
    """What one writer did. What concerns the whole run is in the part of the first writer only."""

    accounts: summary.Accounts
    rejects: list[tuple[str, names.Reject]]
    matched_rows: dict[str, int]
    reads: list[Read]
    shards: list[outcomes.Shard] = dataclasses.field(default_factory=list)
    # Of a span only.
    told: list[outcomes.Outcome] = dataclasses.field(default_factory=list)
    # Of labelled images whose splits outlive the run only: that of each content.
    splits: dict[str, str] = dataclasses.field(default_factory=dict)


def shards_for(work: Sequence[sources.Work], *, at_least: int) -> int:
    """How many shards a split gets, so that one fits into a writer's memory, however large the sources are."""
    return max(at_least, math.ceil(sources.total_bytes(work) / SHARD_BYTES))


def build(
    pipeline: beam.Pipeline,
    work: Iterable[sources.Work],
    excluded_files: list[str],
    settings: Settings,
    *,
    known: Iterable[Sequence[tuple[str, int]]] = (),
) -> None:
    """Adds the ingestion to a Beam pipeline; `collect` returns its account once it has run.

    Args:
      pipeline: not yet run.
      work: what to read.
      excluded_files: TFRecords of raw Examples whose images must not be kept.
      settings: limits and output folders.
      known: hashes of contents that earlier spans hold, each with the span's number, in pieces that fit into memory.
    """
    # Through a file, for a million file names would not fit into a Dataflow job's description.
    work_file = scratch.leave(settings.work_uri, [pickle.dumps(item) for item in enumerate(work)])
    outputs = (
        pipeline
        | "WorkFile" >> beam.Create([work_file])
        | "ListWork" >> beam.FlatMap(scratch.fetch)
        | "SpreadWork" >> beam.Reshuffle()
        | "ReadImages" >> beam.ParDo(ReadImages(settings)).with_outputs(_BATCHES, _CLAIMS, _READS)
    )
    contested = outputs[_CLAIMS] | "GroupClaims" >> beam.GroupByKey() | "Contested" >> beam.Map(_contested)
    # Every writer must run, though no image fall to it, so that all shards exist.
    nothing = scratch.leave(settings.work_uri, Batch())
    to_all = [(bucket, nothing) for bucket in range(settings.num_shards)] + _leave_known(known, settings)
    inputs = [outputs[_BATCHES], pipeline | "NoImages" >> beam.Create(to_all, reshuffle=False)]
    if excluded_files:
        inputs.append(
            pipeline
            | "ExcludedFiles" >> beam.Create(excluded_files)
            | "ReadExcluded" >> beam.FlatMap(_read_excluded, settings)
        )
    _ = (
        inputs
        | "AllBatches" >> beam.Flatten()
        | "GroupByContent" >> beam.GroupByKey()
        | "WriteShard"
        >> beam.Map(_write_shard, settings, beam.pvalue.AsList(contested), beam.pvalue.AsList(outputs[_READS]))
    )


def collect(settings: Settings, *, work_count: int) -> Part:
    """Returns what the writers of a finished run report, added up.

    Raises:
      RuntimeError: if Beam lost or repeated a work item. (That an image was lost shows in the accounts.)
    """
    parts: list[Part] = [scratch.fetch(_part_uri(settings, bucket)) for bucket in range(settings.num_shards)]
    whole = Part(
        accounts=summary.merge(part.accounts for part in parts),
        rejects=[reject for part in parts for reject in part.rejects],
        matched_rows=parts[0].matched_rows,
        reads=sorted(parts[0].reads),
        shards=[shard for part in parts for shard in part.shards],
        told=[outcome for part in parts for outcome in part.told],
        splits={content: split for part in parts for content, split in part.splits.items()},
    )
    if [read.work for read in whole.reads] != list(range(work_count)):
        raise RuntimeError(f"Beam lost or repeated some of {work_count} work items: {summary.BEAM_AT_FAULT}")
    for read in whole.reads:
        whole.accounts.setdefault(read.source, summary.Account()).read += read.images
    return whole


def write_text(uri: str, content: str) -> None:
    """Writes a whole text file or none. Lone surrogates, which UTF-8 lacks, become JSON's escapes."""
    scratch.write_atomically(uri, lambda file: file.write(content.encode("utf-8", "backslashreplace")))


class ReadImages(beam.DoFn):
    """Reads and decodes the images of work items, and deals them out by the hash of their content."""

    def __init__(self, settings: Settings):
        self._settings = settings

    def start_bundle(self) -> None:
        """Begins with nothing, whatever an earlier attempt has read."""
        self._outbox = _Outbox(self._settings)

    def process(self, element: bytes) -> Iterator[beam.pvalue.TaggedOutput]:
        """Reads one work item."""
        number, work = pickle.loads(element)
        total = 0
        for item in sources.read(work, max_bytes=self._settings.max_bytes):
            self._outbox.add(work.source.name, make_record(item, work.source, self._settings))
            total += 1
            if self._outbox.is_full:
                yield from self._outbox.send()
        yield beam.pvalue.TaggedOutput(_READS, Read(number, work.source.name, total))

    def finish_bundle(self) -> Iterator[beam.pvalue.TaggedOutput]:
        """Sends what is left: small work items of one bundle share their files."""
        for output in self._outbox.send():
            yield beam.pvalue.TaggedOutput(output.tag, GlobalWindows.windowed_value(output.value))


class _Outbox:
    """What was read and not yet sent, by the bucket that it goes to."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._clear()

    def _clear(self) -> None:
        self._batches = [Batch() for _ in range(self._settings.num_shards)]
        self._claims: list[list[dedupe.Claim | dedupe.Member]] = [[] for _ in self._batches]
        self._items = self._bytes = 0

    @property
    def is_full(self) -> bool:
        return self._items >= _OUTBOX_ITEMS or self._bytes >= _OUTBOX_BYTES

    def add(self, source: str, read: names.Reject | tuple[dedupe.Record, list[dedupe.Claim | dedupe.Member]]) -> None:
        buckets = len(self._batches)
        self._items += 1
        if isinstance(read, names.Reject):
            self._bytes += len(read.uri) + len(read.detail)
            self._batches[zlib.crc32(read.uri.encode()) % buckets].rejects.append((source, read))
            return
        record, claims = read
        self._batches[_bucket(record.sha256, self._settings)].records.append(record)
        self._bytes += len(record.data) + len(record.uri) + len(record.key)
        for claim in claims:
            self._claims[zlib.crc32(_utf8(claim.name)) % buckets].append(claim)

    def send(self) -> Iterator[beam.pvalue.TaggedOutput]:
        for bucket, batch in enumerate(self._batches):
            if batch.records or batch.rejects:
                uri = scratch.leave(self._settings.work_uri, batch)
                yield beam.pvalue.TaggedOutput(_BATCHES, (bucket, uri))
        for bucket, claims in enumerate(self._claims):
            if claims:
                yield beam.pvalue.TaggedOutput(_CLAIMS, (bucket, scratch.leave(self._settings.work_uri, claims)))
        self._clear()


def make_record(
    item: archives.Item, source: sources.Source, settings: Settings
) -> names.Reject | tuple[dedupe.Record, list[dedupe.Claim | dedupe.Member]]:
    """Decodes and labels a candidate; returns its record with what it claims, or why it is rejected."""
    if isinstance(item, names.Reject):
        return item
    try:
        image = decode.canonicalise(item.data, max_pixels=settings.max_pixels)
    except decode.UndecodableError as error:
        return names.Reject(item.uri, error.reason, str(error))
    key = names.key_of(item.path)
    sha256 = hashlib.sha256(item.data).hexdigest()
    claims = [dedupe.Claim("", key, sha256, exact=True)]
    label, split, loose_row, held_out = None, source.split, None, False
    if source.labeled:
        match = labels.load_manifest(source.manifest).find(item.path, item.uri) if source.manifest else None
        if match:
            label = match.row.label
            loose_row = match.row.name if match.by_basename else None
            claims.append(dedupe.Claim(source.name, match.row.name, key, exact=not match.by_basename))
        elif not source.manifest:
            label = item.label or posixpath.basename(posixpath.dirname(item.path)) or None
        declared = "test" if split == "test" else match and match.row.split
        earlier = _earlier_splits(settings.splits_uri).get(sha256)
        if declared == "test" and earlier == "train":
            detail = "an earlier run has trained on this image, so it cannot test any more"
            return names.Reject(item.uri, summary.TRAINED_ON, detail)
        by_hash = "test" if dedupe.is_held_out(key, settings.holdout_fraction) else "train"
        split = earlier or declared or by_hash
        held_out = split == "test" and declared != "test"
        if label and settings.holdout_fraction and declared != "test":
            claims.append(dedupe.Member(label, held_out, sha256, settled=earlier is not None))
    record = dedupe.Record(
        sha256=sha256,
        source=source.name,
        labeled=source.labeled,
        split=split,
        held_out=held_out,
        uri=item.uri,
        key=key,
        label=label,
        loose_row=loose_row,
        data=image.data,
        width=image.width,
        height=image.height,
        format=image.format,
        source_format=image.source_format,
    )
    return record, claims


@functools.lru_cache(maxsize=1)
def _earlier_splits(uri: str | None) -> dict[str, str]:
    return scratch.fetch(uri) if uri else {}


def _contested(grouped: tuple[int, Iterable[str]]) -> dedupe.Contested:
    return dedupe.find_contested(claim for uri in grouped[1] for claim in scratch.fetch(uri))


def _leave_known(known: Iterable[Sequence[tuple[str, int]]], settings: Settings) -> list[tuple[int, str]]:
    left = []
    for piece in known:
        batches = [Batch() for _ in range(settings.num_shards)]
        for sha256, span in piece:
            batches[_bucket(sha256, settings)].known.append((sha256, span))
        left += [
            (bucket, scratch.leave(settings.work_uri, batch)) for bucket, batch in enumerate(batches) if batch.known
        ]
    return left


def _bucket(sha256: str, settings: Settings) -> int:
    return int(sha256[:8], 16) % settings.num_shards


def _read_excluded(uri: str, settings: Settings) -> list[tuple[int, str]]:
    batches = [Batch() for _ in range(settings.num_shards)]
    compression = CompressionTypes.GZIP if uri.endswith(".gz") else CompressionTypes.UNCOMPRESSED
    with FileSystems.open(uri, compression_type=compression) as file:
        for record in read_records(file, max_record_bytes=2**62):
            sha256 = Example.FromString(record).features.feature["sha256"].bytes_list.value[0].decode()
            batches[_bucket(sha256, settings)].excluded.append(sha256)
    return [(bucket, scratch.leave(settings.work_uri, batch)) for bucket, batch in enumerate(batches)]


def _write_shard(
    grouped: tuple[int, Iterable[str]],
    settings: Settings,
    contested: list[dedupe.Contested],
    reads: list[Read],
) -> None:
    """Settles one bucket of contents and writes its images and its part of the account."""
    bucket, uris = grouped
    accounts: summary.Accounts = collections.defaultdict(summary.Account)
    records, rejects, excluded, known = [], [], set(), {}
    for uri in uris:
        batch: Batch = scratch.fetch(uri)
        records += batch.records
        rejects += batch.rejects
        excluded.update(batch.excluded)
        known.update(batch.known)
    for name, reject in rejects:
        accounts[name].reject(reject.uri, reject.reason)
    everywhere = dedupe.union(contested)
    settled = dedupe.settle(
        records,
        everywhere,
        frozenset(excluded),
        accounts,
        known=known,
        every_key_has_suffix=settings.every_key_has_suffix,
    )
    part = Part(dict(accounts), rejects + settled.rejects, matched_rows={}, reads=[])
    for split, folder in zip(settings.splits, settings.split_uris, strict=True):
        name = f"data_tfrecord-{bucket:05d}-of-{settings.num_shards:05d}"
        mine = (_example(record) for record in settled.kept if record.split == split)
        write = functools.partial(outcomes.write, name=name, examples=mine, told=part.shards)
        scratch.write_atomically(posixpath.join(folder, name), write)
    if settings.is_span:
        part.told += outcomes.of_records(settled, with_perceptual_hash=settings.with_perceptual_hash)
        part.told += [outcomes.of_reject(reject) for _, reject in part.rejects]
    if settings.splits_uri:
        part.splits.update((record.sha256, record.split) for record in settled.kept)
    if bucket == 0:
        part = dataclasses.replace(part, matched_rows=dict(everywhere.matched_rows), reads=reads)
    scratch.write_atomically(_part_uri(settings, bucket), lambda file: file.write(pickle.dumps(part)))


def _example(record: dedupe.Record) -> bytes:
    values = {
        "image_bytes": record.data,
        "key": _utf8(record.key),
        "source_uri": _utf8(record.uri),
        "sha256": record.sha256.encode(),
        "width": record.width,
        "height": record.height,
        "format": record.format.encode(),
        "source_format": record.source_format.encode(),
    }
    if record.labeled:
        values["label"] = _utf8(record.label)
    return serialise(values)


def _utf8(words: str) -> bytes:
    return words.encode("utf-8", "backslashreplace")


def _part_uri(settings: Settings, bucket: int) -> str:
    return posixpath.join(settings.work_uri, f"part-{bucket:05d}")
