"""Ingestion on gs://, and the cycles of a source that grows."""

import json
from typing import Any

_MOST_RUNS = 3


def ingest(root: str, name: str = "ingested") -> dict[str, Any]:
    """ImageExampleGen's executor from `root`/images to a folder of that name in `root`."""
    import apache_beam as beam
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner
    from tfx.dsl.components.base import base_beam_executor
    from tfx.types import standard_artifacts

    from components.artifacts import IngestSummary
    from components.image_example_gen.executor import Executor

    examples, summary = standard_artifacts.Examples(), IngestSummary()
    examples.uri, summary.uri = f"{root}/{name}/examples", f"{root}/{name}/summary"
    context = base_beam_executor.BaseBeamExecutor.Context(
        make_beam_pipeline_fn=lambda: beam.Pipeline(runner=FnApiRunner())
    )
    properties = {
        "sources": json.dumps([{"name": "labeled", "path": f"{root}/images", "split": "train", "labeled": True}]),
        "holdout_fraction": 0.5,
        "max_pixels": 10_000,
        "max_rejected_share": 1.0,
        "num_shards": 2,
    }
    Executor(context).Do({}, {"examples": [examples], "summary": [summary]}, properties)
    return {"splits": json.loads(examples.split_names)}


def look(root: str) -> dict[str, Any]:
    """What both ingestions see of a bucket's folders, with slashes at their ends and without, and of its own root."""
    from components.image_example_gen import sources
    from components.span_ingest import listing

    seen = {}
    for path in ("photos", "photos/", "photos//", "", "/", "week-{SPAN}/", "empty/"):
        uri = f"{root}/{path}" if path.strip("/") else f"{root}{path}"
        spans = listing.look(uri)
        seen[path] = [spans.root, sorted(spans.files), sorted(spans.rejects)]
        if spans.files and "{" not in path:
            listed, files = sources.list_files(uri)
            assert [listed, sorted(files), []] == seen[path], (uri, files)
    return seen


def ingest_in_runs(root: str) -> dict[str, Any]:
    """Ingests again and again, each run into a folder of its own, until one ends; tells how the others failed."""
    failed: list[str] = []
    while len(failed) < _MOST_RUNS:
        name = f"run{len(failed)}"
        try:
            ingest(root, name)
        except Exception as error:  # noqa: BLE001 - whatever ends a run
            failed.append(str(error))
            continue
        return {"failed": failed, "labels": _labels(f"{root}/{name}/examples/*/data_tfrecord-*")}
    raise RuntimeError(f"none of {_MOST_RUNS} runs ended: {failed}")


def reread(root: str) -> dict[str, list[str]]:
    """Labels of the ingested images as TensorFlow reads them, and after Beam has read and written them."""
    import apache_beam as beam
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    ingested = f"{root}/ingested/examples/*/data_tfrecord-*"
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        _ = (
            pipeline
            | beam.io.ReadFromTFRecord(ingested)
            | beam.io.WriteToTFRecord(f"{root}/by_beam/records", file_name_suffix=".gz", num_shards=1)
        )
    return {"ingested": _labels(ingested), "by_beam": _labels(f"{root}/by_beam/*.gz", "GZIP")}


def _labels(pattern: str, compression: str = "") -> list[str]:
    import tensorflow as tf

    records = tf.data.TFRecordDataset(tf.io.gfile.glob(pattern), compression)
    feature = {"label": tf.io.FixedLenFeature([], tf.string)}
    return sorted(tf.io.parse_single_example(record, feature)["label"].numpy().decode() for record in records)


def spans(root: str) -> dict[str, Any]:
    """Cycles over `root`/in: a delivery, a race for the next span, a dead run's leftovers, a lost ledger, windows."""
    import threading
    from concurrent.futures import ThreadPoolExecutor

    import span_fixtures
    from apache_beam.io.filesystems import FileSystems

    from components.span_ingest import window
    from components.span_ingest.store import SpanStore

    store, source = SpanStore(f"{root}/store"), f"{root}/in"

    def deliver(*seeds: int) -> None:
        for seed in seeds:
            with FileSystems.create(f"{source}/{seed}.png", "application/octet-stream", "uncompressed") as file:
                file.write(span_fixtures.png(seed))

    def laid_out(name: str, tested_on: list[str]) -> dict[str, Any]:
        parts = window.choose(store.spans(), trained=0, last=None)
        shares = window.shares(last.ledger, parts, tested_on=tested_on, seed=1)
        window.lay_out(store, shares, f"{root}/{name}")
        files = [found.path for found in FileSystems.match([f"{root}/{name}/*"])[0].metadata_list]
        return {"files": len(files), "hashes": sorted(window.hashes_in(files))}

    deliver(1, 2, 3)
    first = span_fixtures.run(store, source)
    deliver(3, 4, 5)
    dead = store.begin(2)
    store.write_rows(dead, [])
    read = span_fixtures.meet_after_reading(2)
    with ThreadPoolExecutor(2) as pool:
        # Each with a client of its own, as two machines have.
        rivals = [pool.submit(span_fixtures.run, SpanStore(store.folder.path), source, read) for _ in range(2)]
        raced = [rival.result() for rival in rivals]
    FileSystems.delete([store.uri("ledger.parquet")])
    last = span_fixtures.run(store, source)
    hashes = sorted(last.ledger.kept()["sha256"].to_pylist())
    whole, filtered = laid_out("whole", []), laid_out("filtered", hashes[:1])
    creations = threading.Barrier(8)

    def create(number: int) -> bool:
        folder = SpanStore(store.folder.path).folder
        creations.wait()
        return folder.create("trained/000009.json", b"%d" % number)

    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(create, range(8)))
    return {
        "first": first.made.counts.kept,
        "raced": [cycle.made and [cycle.made.number, cycle.made.counts.kept] for cycle in raced],
        "notes": list(last.notes),
        "is_empty": last.delivery.is_empty,
        "is_whole": whole["hashes"] == hashes,
        "without_tested": filtered["hashes"] == hashes[1:],
        "files": whole["files"],
        "created": created.count(True),
        "winner": store.folder.read("trained/000009.json").decode() == str(created.index(True)),
        "trained": store.trained(),
        "missing": store.folder.read("nowhere"),
    }
