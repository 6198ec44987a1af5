"""How the parts that see every image grow with their number: `make bench-scale`; the figures are in docs/scale.md.

Records are synthetic: what is measured is the bookkeeping, and in "ingest" the decoding of images of 32 pixels too.
CPU seconds of this process, best of three, of one where images are ingested. The keys of the images are what `text`
makes of them, by which a test counts what is done with them.
"""

import hashlib
import importlib
import io
import logging
import math
import tarfile
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import ingestion
from components.image_example_gen import dedupe, summary
from components.span_ingest import ledger, near
from components.span_ingest.settings import RetrainConfig
from trainer import label_fractions

_SIZES = (1_000, 10_000, 100_000, 1_000_000)
_CLASSES = 1_000
_IMAGES_AN_ARCHIVE = 10_000
_BITS = RetrainConfig().near_duplicate_bits
_ROUNDS = 3


def synthetic_ledger(count: int) -> ledger.Ledger:
    """A ledger of so many files with hashes, as a span's rows are."""
    hashes = [hashlib.sha256(b"%d" % number).hexdigest() for number in range(count)]
    columns = {name: [None] * count for name in ledger.SCHEMA.names}
    columns |= {
        "path": [f"2026/11/{number % 30:02}/image-{number:09}.jpg" for number in range(count)],
        "size": [100_000] * count,
        "version": [str(1_795_000_000_000_000_000 + number) for number in range(count)],
        "outcome": ["kept"] * count,
        "sha256": hashes,
        "key": [f"image-{number:09}-{digest[:8]}" for number, digest in enumerate(hashes)],
        "perceptual_hash": [digest[:16] for digest in hashes],
        "span": [1] * count,
    }
    return ledger.Ledger(pa.table(columns, schema=ledger.SCHEMA))


def look_up(count: int, *, text: type[str] = str) -> Callable[[], object]:
    """A tenth of the files is looked up in a ledger of all of them, and what has vanished is found."""
    whole = synthetic_ledger(count)
    paths = [text(path) for path in whole.table["path"].to_pylist()[: count // 10]]
    return lambda: (whole.states(paths), whole.missing_from(paths))


def write_and_read(count: int) -> Callable[[], object]:
    """The ledger is written and read, as once in each cycle."""
    table = synthetic_ledger(count).table
    return lambda: pq.read_table(io.BytesIO(_parquet(table)))


def split(count: int, *, text: type[str] = str) -> Callable[[], object]:
    """A hundredth of the labels is chosen, class by class."""
    keys = defaultdict(list)
    for number in range(count):
        keys[str(number % _CLASSES)].append(text(f"image-{number:09}"))
    return lambda: label_fractions.select(keys, 0.01, seed=1)


def split_grown(count: int, *, text: type[str] = str) -> Callable[[], object]:
    """The same where a tenth of the labels is new, and the choice among the others is kept."""
    first, keys = defaultdict(list), defaultdict(list)
    for number in range(count):
        name, key = str(number % _CLASSES), text(f"image-{number:09}")
        keys[name].append(key)
        if number < count - count // 10 or not first[name]:
            first[name].append(key)
    earlier = label_fractions.smallest_fractions(first, [0.01], seed=1)
    return lambda: label_fractions.smallest_fractions(keys, [0.01], seed=1, earlier=earlier)


def find_near(count: int) -> Callable[[], object]:
    """A tenth of the images is new, and compared with the window of the others."""
    hashes = np.random.default_rng(1).integers(0, 2**64, count, np.uint64)
    return lambda: near.find(hashes[: count // 10], hashes[count // 10 :], max_bits=_BITS)


def settle(count: int, *, text: type[str] = str) -> Callable[[], object]:
    """Images that were read are told apart, named and counted; one in ten is a duplicate."""
    records = [_record(number if number % 10 else number // 2, text) for number in range(count)]
    return lambda: dedupe.settle(records, dedupe.Contested(), frozenset(), defaultdict(summary.Account))


def ingest(count: int) -> Callable[[], object]:
    """Images of 32 px in tars are ingested, by Beam in this process; its start is in it."""
    folder = tempfile.TemporaryDirectory()
    images = Path(folder.name, "images")
    images.mkdir()
    for first in range(0, count, _IMAGES_AN_ARCHIVE):
        with tarfile.open(images / f"{first:09}.tar", "w") as archive:
            for number in range(first, min(first + _IMAGES_AN_ARCHIVE, count)):
                png = ingestion.png(number)
                member = tarfile.TarInfo(f"image-{number:09}.png")
                member.size = len(png)
                archive.addfile(member, io.BytesIO(png))
    # A pipeline imports TFX once, whatever it ingests.
    importlib.import_module("components.image_example_gen.executor")

    def act() -> None:
        with tempfile.TemporaryDirectory(dir=folder.name) as out:
            ingestion.ingest(images, Path(out), 1, count)

    return act


def _record(number: int, text: type[str]) -> dedupe.Record:
    name, digest = f"image-{number:09}", hashlib.sha256(b"%d" % number).hexdigest()
    return dedupe.Record(
        sha256=digest,
        source="unlabeled",
        labeled=False,
        split="train",
        held_out=False,
        uri=f"/photos/{name}.jpg",
        key=text(name),
        label=None,
        loose_row=None,
        data=b"",
        width=1,
        height=1,
        format="jpeg",
        source_format="jpeg",
    )


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


PARTS = {
    "look-up": look_up,
    "read and write": write_and_read,
    "split": split,
    "split, grown": split_grown,
    "near": find_near,
    "settle": settle,
    "ingest": ingest,
}


def seconds(part: str, count: int) -> float:
    """The least CPU seconds that a part took."""
    act, best = PARTS[part](count), math.inf
    for _ in range(1 if part == "ingest" else _ROUNDS):
        started = time.process_time()
        act()
        best = min(best, time.process_time() - started)
    return best


def measure() -> Iterator[tuple[str, list[float]]]:
    """Yields the seconds of each part at each size."""
    for name in PARTS:
        yield name, [seconds(name, size) for size in _SIZES]


def main() -> None:
    """Prints a row a part: seconds at each size, and the slope in doubly logarithmic paper between the last two."""
    logging.disable(logging.WARNING)
    print(f"{'':16}" + "".join(f"{size:>12,}" for size in _SIZES) + f"{'slope':>10}")  # noqa: T201
    for name, times in measure():
        slope = math.log10(times[-1] / times[-2])
        print(f"{name:16}" + "".join(f"{took:12.4f}" for took in times) + f"{slope:10.2f}")  # noqa: T201
    size = _SIZES[-1]
    print(f"ledger: {len(_parquet(synthetic_ledger(size).table)) / size:.0f} bytes a file")  # noqa: T201


if __name__ == "__main__":
    main()
