"""Ingestion of more images than memory, in a process that may not have more: argv is a folder, and megabytes."""

import json
import sys
from pathlib import Path

import apache_beam as beam
import memory_limit
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from components.image_example_gen import ingest, sources
from components.image_example_gen.examples import Example, read_records

_SPLIT = "train"


def ingest_all(folder: Path, *, shard_bytes: int) -> dict[str, int]:
    """Ingests `folder`/images by Beam, in this process; returns its account and the number of shards."""
    ingest.SHARD_BYTES = shard_bytes
    source = sources.Source("unlabeled", str(folder / "images"), _SPLIT, labeled=False)
    source, work = sources.plan(source)
    settings = ingest.Settings(
        splits=(_SPLIT,),
        split_uris=(str(folder / "examples"),),
        work_uri=str(folder / "work"),
        num_shards=ingest.shards_for(work, at_least=2),
        max_pixels=50_000_000,
        holdout_fraction=0.0,
    )
    for path in (*settings.split_uris, settings.work_uri):
        Path(path).mkdir()
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        ingest.build(pipeline, work, [], settings)
    account = ingest.collect(settings, work_count=len(work)).accounts["unlabeled"]
    return {"read": account.read, "kept": account.kept, "rejected": account.rejected, "shards": settings.num_shards}


def count(folder: Path) -> int:
    """Distinct images in the shards."""
    found = set()
    for path in (folder / "examples").iterdir():
        with path.open("rb") as file:
            for record in read_records(file, max_record_bytes=2**30):
                found.add(Example.FromString(record).features.feature["sha256"].bytes_list.value[0])
    return len(found)


def main(folder: str, shard_megabytes: str, limit_megabytes: str) -> None:
    # Beam is imported lazily in parts: run once on nothing much before the limit counts.
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        _ = pipeline | beam.Create([("a", 1)]) | beam.GroupByKey() | beam.Map(str)
    memory_limit.limit_memory(int(limit_megabytes))
    told = ingest_all(Path(folder), shard_bytes=int(shard_megabytes) << 20)
    sys.stdout.write(json.dumps({**told, "stored": count(Path(folder))}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
