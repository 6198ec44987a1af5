"""Sources that grow, cycles without Beam, and what a store holds after them."""

import collections
import io
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
from PIL import Image

from components.image_example_gen import dedupe, ingest, scratch, sources
from components.image_example_gen.examples import Example, read_records
from components.span_ingest import cycle
from components.span_ingest.store import SpanStore


def png(seed: int) -> bytes:
    """Returns a small PNG, another for each seed."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_files(root: Path, files: dict[str, bytes]) -> None:
    """Writes files by their relative path."""
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


def settings(source: Path | str, **given: Any) -> cycle.Settings:
    """Settings of a cycle that never waits, takes any share of rejects, and writes two shards."""
    defaults = {
        "settle_s": 0.0,
        "max_pixels": 10_000,
        "max_rejected_share": 1.0,
        "num_shards": 2,
        "with_perceptual_hash": False,
    }
    return cycle.Settings(source=str(source), **{**defaults, **given})


def read_here(
    work: Sequence[sources.Work], given: ingest.Settings, known: Iterable[Sequence[tuple[str, int]]]
) -> ingest.Part:
    """What `cycle.reader` does by Beam: the same readers and writers, one after the other, in a few milliseconds."""
    readers, batches, claims, reads = ingest.ReadImages(given), collections.defaultdict(list), [], []
    for number, item in enumerate(work):
        readers.start_bundle()
        outputs = list(readers.process(ingest.pickle.dumps((number, item))))
        # Those of a bundle's end are wrapped for a window.
        outputs += [beam.pvalue.TaggedOutput(o.tag, o.value.value) for o in readers.finish_bundle()]
        for output in outputs:
            if output.tag == "reads":
                reads.append(output.value)
            elif output.tag == "claims":
                claims += scratch.fetch(output.value[1])
            else:
                batches[output.value[0]].append(output.value[1])
    for bucket, uri in ingest._leave_known(known, given):
        batches[bucket].append(uri)
    contested = [dedupe.find_contested(claims)]
    for bucket in range(given.num_shards):
        ingest._write_shard((bucket, batches[bucket]), given, contested, reads)
    return ingest.collect(given, work_count=len(work))


def run(store: SpanStore, source: Path | str, read: cycle.ReadWork = read_here, **given: Any) -> cycle.Cycle:
    """One cycle."""
    hooks = {name: given.pop(name) for name in ("clock", "wait") if name in given}
    return cycle.run(store, settings(source, **given), read, **hooks)


def meet_after_reading(parties: int) -> cycle.ReadWork:
    """A reader that, the first time in each thread, waits until all have read: nobody commits before."""
    barrier, first = threading.Barrier(parties, timeout=30), threading.local()

    def read(*arguments: Any) -> ingest.Part:
        part = read_here(*arguments)
        if not getattr(first, "over", False):
            first.over = True
            barrier.wait()
        return part

    return read


def records(folder: Path | str) -> list[dict[str, Any]]:
    """All Examples of a folder of TFRecords, in the order of its files."""
    found = []
    for path in sorted(Path(folder).iterdir()):
        if not path.name.startswith("data_tfrecord"):
            continue
        with path.open("rb") as file:
            for record in read_records(file, max_record_bytes=2**20):
                feature = Example.FromString(record).features.feature
                found.append({n: (v.bytes_list.value or v.int64_list.value)[0] for n, v in feature.items()})
    return found


def hashes(store: SpanStore) -> list[list[str]]:
    """By span, the sorted hashes of what its shards really hold."""
    return [sorted(r["sha256"].decode() for r in records(store.uri(span.folder))) for span in store.spans()]


def contents(store: SpanStore) -> list[tuple]:
    """All that a store says and holds, but for the names of attempts and the times: equal for equal histories."""
    told = []
    for span in store.spans():
        rows = [{name: value for name, value in row.items() if name != "version"} for row in store.rows(span)]
        shards = [Path(store.uri(f"{span.folder}/{shard.name}")).read_bytes() for shard in span.shards]
        told.append((span.number, span.counts, tuple(span.shards), rows, shards))
    return told


def files_of(store: SpanStore) -> set[str]:
    """Every file below the store, leftovers of broken writes too."""
    root = Path(store.folder.path)
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
