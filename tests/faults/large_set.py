"""Deliveries of more images than memory, in a process that may not have more: argv is a folder, and megabytes.

They become spans, as in SpanIngest: what is new is read by Beam, compared with what is known, and told with its
perceptual hashes; the window is laid out, and its near duplicates are looked for.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import memory_limit
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from PIL import Image

from components.image_example_gen import ingest
from components.image_example_gen.examples import Example, read_records
from components.span_ingest import account, cycle, window
from components.span_ingest.store import SpanStore


def ingest_all(folder: Path, store: SpanStore) -> Iterator[cycle.Cycle]:
    """Makes a span of each delivery, which comes into `folder`/images when the one before it was ingested."""
    settings = cycle.Settings(
        source=str(folder / "images"),
        settle_s=0.0,
        max_pixels=50_000_000,
        max_rejected_share=0.0,
        num_shards=2,
        with_perceptual_hash=True,
    )
    (folder / "images").mkdir()
    for delivery in sorted((folder / "deliveries").iterdir()):
        delivery.rename(folder / "images" / delivery.name)
        yield cycle.run(store, settings, cycle.reader(lambda: beam.Pipeline(runner=FnApiRunner()), []))


def lay_out(folder: Path, store: SpanStore, found: cycle.Cycle) -> dict[str, int]:
    """Lays out the window; returns how many images it has, and how many after the first span are near to earlier."""
    trained = found.spans[0].number
    parts = window.choose(found.spans, trained=trained, last=None, half_life_spans=None)
    shares = window.shares(found.ledger, parts, tested_on=(), seed=0)
    (folder / "examples").mkdir()
    window.lay_out(store, shares, str(folder / "examples"))
    images = sum(share.images for share in shares)
    verdict = cycle.judge(found.spans, trained=trained, in_window=images, min_new_images=1, min_window_images=1)
    told = account.spans_json(found, verdict, parts, shares, trained=trained, tested_on=(), near_duplicate_bits=3)
    return {"in_window": images, "near_duplicates": json.loads(told)["near_duplicates"]["found"]}


def count(folder: Path) -> int:
    """Distinct images in the shards."""
    found = set()
    for path in (folder / "examples").iterdir():
        with path.open("rb") as file:
            for record in read_records(file, max_record_bytes=2**30):
                found.add(Example.FromString(record).features.feature["sha256"].bytes_list.value[0])
    return len(found)


def told_of(folder: Path) -> dict[str, object]:
    """Ingests all deliveries of a folder and lays out their window; returns what became of them."""
    store = SpanStore(str(folder / "store"))
    *_, found = ingest_all(folder, store)
    return {
        "kept": [span.counts.kept for span in found.spans],
        "read": [span.counts.read for span in found.spans],
        "shards": [len(span.shards) for span in found.spans],
        **lay_out(folder, store, found),
        "stored": count(folder),
    }


def main(folder: str, shard_megabytes: str, limit_megabytes: str) -> None:
    place = Path(folder)
    # Beam and SciPy are imported in parts, and Arrow sets memory apart: once on next to nothing, that is theirs.
    pixel = place / "first" / "deliveries" / "1" / "pixel.png"
    pixel.parent.mkdir(parents=True)
    Image.new("RGB", (1, 1)).save(pixel)
    told_of(place / "first")
    memory_limit.limit_memory(int(limit_megabytes))
    ingest.SHARD_BYTES = int(shard_megabytes) << 20
    sys.stdout.write(json.dumps(told_of(place)) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
