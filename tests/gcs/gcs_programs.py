"""What runs in a process whose gs:// is the emulator: argv is a gs:// folder and the names of functions to call."""

import json
import os
import sys
from typing import Any

_IDENTITY = {"seed": 1}
_TRAINING_TIMEOUT_S = 300
_MOST_RUNS = 3
_WRITERS = 8
# How long Google's client for Python waits for an answer, if not a minute.
PATIENCE = "PYTHON_PATIENCE_S"


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


def kill(root: str) -> dict[str, Any]:
    """Trains with checkpoints in `root`/checkpoints after each step; the process is killed before the seventh."""
    import multiprocessing
    import signal

    import killed_training
    import tensorflow as tf

    def die_at_six(number: int) -> None:
        if number == 6:
            os.kill(os.getpid(), signal.SIGKILL)

    # Forked after TensorFlow's import, which takes seconds, and before it runs anything, which no fork survives.
    training = multiprocessing.get_context("fork").Process(
        target=killed_training.run,
        args=[f"{root}/checkpoints"],
        kwargs={"batch_hook": die_at_six, "every_steps": 1, "identity": _IDENTITY},
    )
    training.start()
    training.join(_TRAINING_TIMEOUT_S)
    training.terminate()
    return {"exit_code": training.exitcode, "left": sorted(tf.io.gfile.listdir(f"{root}/checkpoints"))}


def resume(root: str) -> dict[str, int]:
    """Goes on with that training, and compares it with one that was never killed."""
    import killed_training

    batches: list[int] = []
    resumed = killed_training.run(
        f"{root}/checkpoints", batch_hook=batches.append, identity=_IDENTITY, log_dir=f"{root}/logs"
    )
    killed_training.assert_same_training(resumed, killed_training.run())
    return {"first_batch": batches[0], "last_step": resumed[1].rows[-1]["step"]}


def train(root: str) -> dict[str, int]:
    """A training that nobody kills, with checkpoints every fourth step, is as one without any."""
    import killed_training

    saved = killed_training.run(f"{root}/checkpoints", identity=_IDENTITY)
    killed_training.assert_same_training(saved, killed_training.run())
    again = killed_training.run(f"{root}/checkpoints", identity=_IDENTITY)
    killed_training.assert_same_training(again, saved)
    return {"last_step": again[1].rows[-1]["step"]}


def export_and_load(root: str) -> dict[str, Any]:
    """Exports a classifier to `root`/model, and compares what is read back with the network itself."""
    import numpy as np
    import tensorflow as tf

    from trainer import export, heads, resnet
    from trainer.config import EncoderConfig

    config, classes = EncoderConfig(stage_blocks=(1,), width=4), ["cat", "frog", "ship"]
    model = heads.classifier_on(resnet.build_encoder(config, size_px=8, seed=3), n_classes=len(classes))
    for variable in model.weights:
        variable.assign_add(tf.random.stateless_uniform(variable.shape, [0, 1], 0.01, 0.5))
    served = export.ServedClassifier(model, export.folder_preprocessing(size_px=8), classes=classes)
    path = f"{root}/model"
    export.save_served(served, path)
    export.save_classes(classes, path)
    export.save_classifier(model, path, encoder=config, classes=classes)

    images = tf.stack([tf.io.encode_png(tf.fill([6, 5, 3], tf.constant(shade, tf.uint8))) for shade in (40, 200)])
    expected = served.classify(images)["probabilities"]
    loaded = tf.saved_model.load(path).signatures["serving_default"](image_bytes=images)
    np.testing.assert_allclose(loaded["probabilities"], expected, atol=1e-6)
    again, _, names = export.load_classifier(path)
    for variable, saved in zip(again.weights, model.weights, strict=True):
        np.testing.assert_array_equal(variable, saved)
    return {"classes": list(names), "probabilities": expected.numpy().tolist()}


def push(root: str) -> dict[str, Any]:
    """Pushes a model, pushes it again, breaks off a push of a better one, and repeats that push."""
    import contextlib
    import dataclasses
    from unittest import mock

    from push_saved_models import save_model, write_test_split

    from components.push import publishing
    from components.push.comparison import Rule
    from components.push.decision import push_model
    from components.push.fingerprint import fingerprint
    from components.push.versions import VersionedDirectory

    first, better = (save_model(f"{root}/models/{mistakes}", mistakes=mistakes) for mistakes in (5, 2))
    split, directory = write_test_split(f"{root}/Split-test"), VersionedDirectory(f"{root}/pushed")
    copy, rule = publishing.fileio.copy, Rule(0.0, judged_by="estimate")

    def break_at_the_model_file(source: str, target: str) -> None:
        if source.endswith("saved_model.pb"):
            raise ConnectionError("gone")
        copy(source, target)

    def pushed(model: str) -> dict[str, Any]:
        return dataclasses.asdict(
            push_model(model, blessed=True, test_split_uri=split, destination=directory.path, rule=rule)
        )

    decisions = [pushed(first), pushed(first)]
    breaking = mock.patch.object(publishing.fileio, "copy", break_at_the_model_file)
    with breaking, contextlib.suppress(ConnectionError):
        pushed(better)
    after_the_break = {
        "versions": directory.versions(),
        "champion": directory.champion(),
        "found": directory.find(fingerprint(better)),
    }
    return {"decisions": [*decisions, pushed(better)], "after_the_break": after_the_break}


def rival_pushes(root: str) -> dict[str, Any]:
    """Pushes, rolls back and promotes, and so does another when the first is about to move the pointer or tell it."""
    import dataclasses
    import threading
    from collections.abc import Callable
    from concurrent.futures import ThreadPoolExecutor
    from unittest import mock

    from push_saved_models import save_model, write_test_split
    from tfx.dsl.io import fileio

    from components.push import restoring
    from components.push.comparison import Rule
    from components.push.decision import push_model
    from components.push.history import PROMOTED, ROLLED_BACK, History
    from components.push.versions import VersionedDirectory
    from components.span_ingest.folder import open_folder

    models = {mistakes: save_model(f"{root}/models/{mistakes}", mistakes=mistakes) for mistakes in (6, 5, 4, 2)}
    split, rule = write_test_split(f"{root}/Split-test"), Rule(0.0, judged_by="estimate")
    results = {}

    def push(folder: str, mistakes: int) -> dict[str, Any]:
        return dataclasses.asdict(
            push_model(models[mistakes], blessed=True, test_split_uri=split, destination=folder, rule=rule)
        )

    def between(of: type, method: str, name: str, ours: Callable[[str], Any], theirs: Callable[[str], Any]) -> None:
        """Calls `theirs` once, when `ours` is about to call the method; both have two versions to begin with."""
        folder, work, begun = f"{root}/{name}", getattr(of, method), []
        push(folder, 6)
        push(folder, 5)

        def meanwhile(*arguments: Any, **named: Any) -> Any:
            if not begun:
                begun.append(True)
                theirs(folder)
            return work(*arguments, **named)

        with mock.patch.object(of, method, meanwhile):
            done = ours(folder)
        with fileio.open(f"{folder}/HISTORY.jsonl", "r") as file:
            told = [json.loads(line) for line in file.read().splitlines()[2:]]
        results[name] = {
            "decision": done if isinstance(done, dict) else dataclasses.asdict(done),
            "champion": VersionedDirectory(folder).champion(),
            "told": [[entry["event"], entry["former"], entry["champion"]] for entry in told],
        }

    worse, better = (lambda folder: push(folder, 4)), (lambda folder: push(folder, 2))
    between(VersionedDirectory, "crown", "better-between", worse, better)
    between(VersionedDirectory, "crown", "worse-between", better, worse)
    between(History, "append", "behind-the-pointer", worse, better)
    between(History, "append", "kept-back", lambda folder: push(folder, 6), worse)
    between(VersionedDirectory, "crown", "rolled-back-between", worse, restoring.roll_back)
    between(VersionedDirectory, "crown", "promoted-between", worse, lambda folder: restoring.promote(folder, 1))
    between(History, "append", "rollback-behind-the-pointer", restoring.roll_back, worse)

    def push_before_the_line(folder: str) -> dict[str, Any]:
        open_folder(folder).replace("CHAMPION", b"1\n")
        return push(folder, 4)

    def add_the_line(folder: str) -> None:
        History(open_folder(folder)).append(ROLLED_BACK, champion=1, former=2, reason="", moved=True)

    between(History, "append", "line-between", push_before_the_line, add_the_line)
    appends = threading.Barrier(_WRITERS)

    def append(number: int) -> None:
        history = History(open_folder(f"{root}/history"))
        appends.wait()
        history.append(PROMOTED, champion=number, former=None, reason="", moved=True)

    with ThreadPoolExecutor(_WRITERS) as pool:
        list(pool.map(append, range(_WRITERS)))
    entries = History(open_folder(f"{root}/history")).entries()
    return {**results, "all-appended": sorted(entry["champion"] for entry in entries) == list(range(_WRITERS))}


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


def summarise(root: str) -> None:
    """Writes what became of a run to `root`/summaries; how its node went and what it made is on the store too."""
    from tfx.dsl.io import fileio

    from components.run_summary.component import RunSummary_Executor

    report = {
        "taskName": "Report",
        "state": "SUCCEEDED",
        "outputs": {"report": {"artifacts": [{"uri": f"{root}/r"}]}},
    }
    files = {
        "simclr-1/job.json": {"jobDetail": {"taskDetails": [report]}},
        "r/metrics.json": {"rows": [{"arm": "finetune", "label_fraction": 1.0, "top1": 0.5}], "ingest": {}},
    }
    for name, value in files.items():
        with fileio.open(f"{root}/{name}", "w") as file:
            file.write(json.dumps(value))
    status = {"state": "SUCCEEDED", "pipelineJobResourceName": "projects/1/locations/mars/pipelineJobs/simclr-1"}
    properties = {
        "final_status": json.dumps(status),
        "destination": f"{root}/summaries",
        "runs": root,
        "region": "us-central1",
        "configuration": "seed: 1\n",
    }
    RunSummary_Executor().Do({}, {}, properties)


def history(root: str) -> None:
    """What `make history` runs."""
    from pipeline import cli

    cli.main(["history", "--output", root], standalone_mode=False)


def history_of_nothing(root: str) -> list[int]:
    """Exit codes of `make history` where there are no runs, and where there is no bucket."""
    from click.testing import CliRunner

    from pipeline import cli

    roots = (root, "gs://no-such-bucket/runs")
    done = [CliRunner().invoke(cli.main, ["history", "--output", output]) for output in roots]
    assert all("it broke off: " in one.output and "Traceback" not in one.output for one in done)
    return [one.exit_code for one in done]


def run_pipeline(root: str) -> None:
    """The whole pipeline, tiny, by TFX's own LocalDagRunner: all but its metadata is below `root`."""
    import tempfile

    from tfx.orchestration import metadata
    from tfx.orchestration.local.local_dag_runner import LocalDagRunner

    from pipeline.config import load_config
    from pipeline.pipeline import Locations, create_pipeline
    from pipeline.runners.beam_processes import beam_pipeline_args

    stage = ["batch_size=8", "steps=2"]
    config = load_config(
        overrides=[
            f"data.unlabeled={root}/unlabeled",
            f"data.labeled={root}/labeled",
            "data.holdout_fraction=0.4",
            "fractions=[1]",
            "pretrain.encoder.stage_blocks=[1]",
            "pretrain.encoder.width=4",
            "pretrain.head.output_dim=8",
            "pretrain.augment.jitter_strength=0",
            "pretrain.augment.grayscale_probability=0",
            "pretrain.batch_size=8",
            "pretrain.epochs=2",
            "probe.inverse_regularization=[0.1, 1.0]",
            *(f"{name}.{setting}" for name in ("finetune", "supervised") for setting in stage),
            "gate.min_top1=0",
        ]
    )
    folders = {name: f"{root}/{name}" for name in ("artifacts", "checkpoints", "pushed")}
    with tempfile.TemporaryDirectory() as local:
        pipeline = create_pipeline(
            config,
            Locations(**folders),
            beam_pipeline_args=beam_pipeline_args(config.beam.workers),
            metadata_connection_config=metadata.sqlite_metadata_connection_config(f"{local}/metadata.sqlite"),
        )
        LocalDagRunner().run(pipeline)


def _wait_no_longer_than(seconds: float) -> None:
    from requests.adapters import HTTPAdapter

    send = HTTPAdapter.send

    def sent(self: HTTPAdapter, *arguments: Any, **named: Any) -> Any:
        return send(self, *arguments, **{**named, "timeout": seconds})

    HTTPAdapter.send = sent


if __name__ == "__main__":
    if PATIENCE in os.environ:
        _wait_no_longer_than(float(os.environ[PATIENCE]))
    sys.stdout.write(json.dumps({name: globals()[name](sys.argv[1]) for name in sys.argv[2:]}) + "\n")
