"""What became of each image of a span, and what its shards hold: what the span's own books are made from."""

import io
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

import google_crc32c
from PIL import Image

from components.image_example_gen import dedupe, names
from components.image_example_gen.examples import write_record

KEPT, DUPLICATE, REJECTED = "kept", "duplicate", "rejected"


class Outcome(NamedTuple):
    """One image, or one thing that was read and is none.

    Attributes:
      uri: of the file, or `archive!member`.
      outcome: kept, duplicate or rejected.
      sha256: of its encoded bytes; None for a reject.
      key: of a kept one.
      of: what a duplicate is a copy of, see `dedupe.Settled`.
      reason: of a reject, a stable word.
      detail: of a reject, for a person.
      perceptual_hash: of a kept one, 16 hexadecimal digits; None where it was not asked for.
    """

    uri: str
    outcome: str
    sha256: str | None = None
    key: str | None = None
    of: str | None = None
    reason: str | None = None
    detail: str | None = None
    perceptual_hash: str | None = None


class Shard(NamedTuple):
    """A TFRecord file: its name, records, bytes, and the CRC32C of these, which object stores keep as well."""

    name: str
    records: int
    bytes: int
    crc32c: int


class _Summed:
    """A file whose bytes are counted and summed up on their way."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.bytes, self.crc32c = 0, 0

    def write(self, data: bytes) -> int:
        self.bytes += len(data)
        self.crc32c = google_crc32c.extend(self.crc32c, data)
        return self._file.write(data)


def write(file: BinaryIO, *, name: str, examples: Iterable[bytes], told: list[Shard]) -> None:
    """Writes a shard, and tells what was to be written: what a disk makes of it shows by the difference."""
    summed, records = _Summed(file), 0
    for example in examples:
        write_record(summed, example)
        records += 1
    told.append(Shard(name, records, summed.bytes, summed.crc32c))


def of_records(settled: dedupe.Settled, *, with_perceptual_hash: bool) -> Iterator[Outcome]:
    """Yields what became of decoded images: kept ones and duplicates."""
    for record in settled.kept:
        perceived = perceptual_hash(record.data) if with_perceptual_hash else None
        yield Outcome(record.uri, KEPT, record.sha256, key=record.key, perceptual_hash=perceived)
    for record, of in settled.duplicates:
        yield Outcome(record.uri, DUPLICATE, record.sha256, of=of)


def of_reject(reject: names.Reject) -> Outcome:
    """Returns the outcome of something that was rejected."""
    return Outcome(reject.uri, REJECTED, reason=reject.reason, detail=reject.detail)


def perceptual_hash(data: bytes) -> str:
    """Returns 64 bits that stay about the same when an image is scaled, recompressed or lightened a little.

    They are the signs of the lowest 8x8 frequencies of the gray image, as hexadecimal digits (imagehash.phash).
    """
    # Brings SciPy's transforms, which only runs that ask for hashes pay for.
    import imagehash

    with Image.open(io.BytesIO(data)) as image:
        return str(imagehash.phash(image))
