"""Weeks of a source that grows, on LocalDagRunner: what is trained on, what is not, and a run that dies."""

import contextlib
import io
import json
import re
import shutil
import sqlite3
from pathlib import Path

import pytest
import span_graph
from rich.console import Console
from tfx.orchestration.pipeline import Pipeline
from tfx.types import artifact_utils, standard_artifacts

from components.artifacts import Leakage
from components.leakage_gate import executor as leakage_gate
from components.span_ingest.store import SpanStore
from pipeline import ingestion, outlook, preflight
from pipeline.config import load_config
from pipeline.runners import local
from trainer.config import ConfigError


class Weeks:
    """A source, a store, and a run over them after the other, each as the command line starts it."""

    def __init__(self, folder: Path, labeled: Path, monkeypatch) -> None:
        self.source, self.output = folder / "source", folder / "run"
        self.source.mkdir()
        self.broken_by = folder / "broken"
        self.config = load_config(
            None,
            [
                f"data.unlabeled={self.source}",
                f"data.labeled={labeled}",
                "data.holdout_fraction=0.4",
                f"retrain.store={folder / 'store'}",
                "retrain.settle_s=0",
                f"output={self.output}",
            ],
        )
        self.store = SpanStore(self.config.retrain.store)
        self.printed = ""
        monkeypatch.setattr(local, "create_pipeline", self._create_pipeline)

    def _create_pipeline(self, config, locations, *, fingerprints, all_wait, **settings):
        images = ingestion.labeled_images(config, fingerprints["labeled"])
        return Pipeline(
            pipeline_name="small",
            pipeline_root=locations.artifacts,
            components=span_graph.nodes(config, images, fingerprints=fingerprints, broken_by=str(self.broken_by)),
            enable_cache=True,
            # With any, TFX packs itself up for workers that are not here, which takes longer than all else.
            **{**settings, "beam_pipeline_args": []},
        )

    def deliver(self, pngs: dict[str, bytes]) -> None:
        for name, png in pngs.items():
            (self.source / name).write_bytes(png)

    def run(self, **part: str) -> str | None:
        """Returns why nothing was to do, if that was clear before the graph; else None."""
        found = outlook.look(self.config)
        if found.nothing_to_do:
            return found.nothing_to_do
        fingerprints = {name: look.fingerprint for name, look in preflight.inspect(self.config).items()}
        console = Console(file=io.StringIO(), width=200)
        try:
            local.run(self.config, fingerprints | {"spans": found.fingerprint}, console=console, **part)
        finally:
            self.printed = console.file.getvalue()
        return None

    def counted(self) -> list[int]:
        """How many images of the window Count has met, by execution."""
        found = self.output.glob(f"artifacts/Count/report/*/{span_graph.COUNTED}")
        return [int(path.read_text()) for path in sorted(found, key=lambda path: int(path.parent.name))]

    def spans_json(self) -> dict:
        [*_, last] = sorted(self.output.glob("artifacts/SpanIngest/summary/*"), key=lambda path: int(path.name))
        return json.loads((last / "spans.json").read_text())


@pytest.fixture
def weeks(tmp_path, class_folders, monkeypatch):
    yield Weeks(tmp_path, class_folders, monkeypatch)
    shutil.rmtree(tmp_path, ignore_errors=True)


def test_each_week_has_its_outcome(weeks, sample_pngs):
    cats, ships = sample_pngs["cat"], sample_pngs["ship"]
    weeks.deliver({f"cat{n}.png": cats[n] for n in range(16, 24)})
    assert weeks.run() is None
    assert weeks.counted() == [8] and weeks.store.trained() == 1

    # Nothing came: the graph is not even built.
    assert weeks.run() == "no new images: nothing to do"

    # New files, old images.
    weeks.deliver({"again.png": cats[16]})
    assert weeks.run() is None
    assert "SpanTrained" in weeks.printed and weeks.printed.count("not run") == 2
    assert "\nspan 2: read 1 = kept 0 + duplicate 1 + rejected 0\nno new images: nothing to do" in weeks.printed
    assert len(weeks.counted()) == 1 and weeks.store.trained() == 1
    assert weeks.spans_json()["made"] == {"span": 2, "read": 1, "kept": 0, "duplicate": 1, "rejected": 0}
    assert weeks.run() == "no new images: nothing to do"

    # Two new ones, and the training dies: the next run goes on with what was ingested, and ingests nothing twice.
    weeks.deliver({f"ship{n}.png": ships[n] for n in (16, 17)})
    weeks.broken_by.touch()
    with pytest.raises(local.NodeFailedError, match="the training died"):
        weeks.run()
    assert len(weeks.store.spans()) == 3 and weeks.store.trained() == 1
    weeks.broken_by.unlink()
    assert weeks.run() is None
    assert "SpanIngest              cached" in weeks.printed
    assert weeks.counted() == [8, 10] and weeks.store.trained() == 3
    assert len(weeks.store.spans()) == 3
    assert weeks.run() == "no new images: nothing to do"
    told = weeks.spans_json()
    assert [(span["span"], span["images"]) for span in told["window"]] == [(1, 8), (2, 0), (3, 2)]
    assert told["decision"] == {"proceed": True, "new_images": 2, "words": "2 new images, 10 in the window"}
    assert told["near_duplicates"]["compared"] == 2


def test_rejects_of_a_delivery_are_told_with_where_they_are_explained(weeks, sample_pngs):
    cats = sample_pngs["cat"]
    weeks.deliver({**{f"{n}.png": cats[n] for n in range(16, 24)}, "half.png": cats[24][:200]})
    assert weeks.run() is None
    told = re.search(r"\nspan 1: read 9 = kept 8 \+ duplicate 0 \+ rejected 1; why rejected: (.*)\n", weeks.printed)
    [reject] = Path(told[1]).read_text().splitlines()
    assert "half.png" in reject


def test_week_of_one_stray_file_has_nothing_to_do_and_leaves_nothing_for_the_next(weeks, sample_pngs):
    weeks.deliver({f"{n}.png": sample_pngs["cat"][n] for n in range(16, 24)})
    assert weeks.run() is None
    weeks.deliver({"README.md": b"photos of cats"})
    assert weeks.run() is None
    assert "\nspan 2: read 1 = kept 0 + duplicate 0 + rejected 1" in weeks.printed
    assert "no new images: nothing to do" in weeks.printed and weeks.store.trained() == 1
    assert weeks.run() == "no new images: nothing to do"


def test_few_new_images_wait_for_more_and_then_all_are_trained_on(weeks, sample_pngs):
    retrain = weeks.config.retrain.model_copy(update={"min_new_images": 3})
    weeks.config = weeks.config.model_copy(update={"retrain": retrain})
    frogs = sample_pngs["frog"]
    weeks.deliver({f"{n}.png": frogs[n] for n in (20, 21)})
    assert weeks.run() is None
    waits = "2 new images, fewer than retrain.min_new_images = 3: waiting for more"
    assert waits in weeks.printed and weeks.counted() == []
    assert weeks.run() == waits
    weeks.deliver({"22.png": frogs[22]})
    assert weeks.run() is None
    assert weeks.counted() == [3] and weeks.store.trained() == 2


def test_leakage_gate_which_waits_for_nothing_reads_the_window_of_a_run_that_waits_as_one_without_images(
    weeks, sample_pngs, tmp_path
):
    retrain = weeks.config.retrain.model_copy(update={"min_new_images": 3})
    weeks.config = weeks.config.model_copy(update={"retrain": retrain})
    weeks.deliver({f"{n}.png": sample_pngs["frog"][n] for n in (20, 21)})
    assert weeks.run() is None and "waiting for more" in weeks.printed
    inputs = {}
    for name, node, splits in (
        ("labeled", "ImageExampleGen-labeled", ["train", "test"]),
        ("unlabeled", "SpanIngest", ["train"]),
    ):
        [uri] = weeks.output.glob(f"artifacts/{node}/examples/*")
        inputs[name] = [standard_artifacts.Examples()]
        inputs[name][0].uri, inputs[name][0].split_names = str(uri), artifact_utils.encode_split_names(splits)
    leakage = Leakage()
    leakage.uri = str(tmp_path / "leakage")
    leakage_gate.Executor().Do(inputs, {"leakage": [leakage]}, {})
    compared = json.loads(Path(leakage.uri, leakage_gate.LEAKAGE_FILE).read_text())
    assert compared["training"]["unlabeled"] == 0 and compared["training"]["labeled"] + compared["test"] == 48


def test_images_of_the_test_split_never_come_to_training(weeks, class_folders, sample_pngs):
    """All labelled images are delivered, those that are held out among them."""
    weeks.deliver({f"{path.parent.name}{path.name}": path.read_bytes() for path in class_folders.rglob("*.png")})
    weeks.deliver({"new.png": sample_pngs["cat"][30]})
    assert weeks.run() is None
    [in_window] = weeks.counted()
    summary = next(weeks.output.glob("artifacts/ImageExampleGen-labeled/summary/*/summary.json"))
    held_out = json.loads(summary.read_text())["labeled"]["splits"]["test"]
    assert held_out > 0 and in_window == 49 - held_out
    [span] = weeks.store.spans()
    assert (span.counts.kept, span.counts.duplicate) == (49 - held_out, held_out)
    assert weeks.spans_json()["test_images_in_spans"] == 0
    summary = json.loads(next(weeks.output.glob("artifacts/SpanIngest/summary/*/summary.json")).read_text())
    assert summary["unlabeled"]["duplicate_of_excluded"] == summary["unlabeled"]["duplicate"] == held_out
    assert summary["unlabeled"]["read"] == 49


def test_report_is_laid_out_before_the_run_counts_as_completed(weeks, sample_pngs, monkeypatch):
    """A kill after SpanTrained leaves the next run nothing to do: what people read must be there by then."""
    trained = []
    monkeypatch.setattr(local, "_REPORT_NODE", "Count")
    monkeypatch.setattr(local, "lay_out", lambda output, report, record: trained.append(weeks.store.trained()))
    monkeypatch.setattr(local, "publish", lambda *_, **__: trained.append(weeks.store.trained()))
    weeks.deliver({"a.png": sample_pngs["cat"][20]})
    assert weeks.run() is None
    assert trained == [0, 1]


def test_outlook_tells_what_is_wrong_with_the_source_or_the_store(weeks):
    weeks.source.rmdir()
    with pytest.raises(ConfigError, match=r"data\.unlabeled.*does not exist"):
        outlook.look(weeks.config)


def test_outlook_knows_a_state_again_after_its_own_ingestion_and_no_other(weeks, sample_pngs):
    weeks.deliver({"a.png": sample_pngs["cat"][20]})
    before = outlook.look(weeks.config)
    assert before.nothing_to_do is None
    weeks.broken_by.touch()
    with pytest.raises(local.NodeFailedError):
        weeks.run()
    after = outlook.look(weeks.config)
    assert after.fingerprint == before.fingerprint and after.nothing_to_do is None
    weeks.store.mark_trained(1)
    assert outlook.look(weeks.config).fingerprint != before.fingerprint
    weeks.deliver({"b.png": sample_pngs["cat"][21]})
    assert len({outlook.look(weeks.config).fingerprint, after.fingerprint, before.fingerprint}) == 2


def test_sigterm_in_a_training_ends_the_run_as_between_two_nodes_and_the_next_goes_on(weeks, sample_pngs):
    weeks.deliver({"a.png": sample_pngs["cat"][20]})
    weeks.broken_by.write_text("SIGTERM")
    with pytest.raises(KeyboardInterrupt, match="stopped by SIGTERM after step 3 of 10"):
        weeks.run()
    assert re.search(r"Count +stopped\n", weeks.printed)
    assert weeks.counted() == [] and weeks.store.trained() == 0
    weeks.broken_by.unlink()
    assert weeks.run() is None
    assert weeks.counted() == [1] and weeks.store.trained() == 1


def test_part_of_a_run_takes_over_from_the_run_before_also_if_the_clock_was_moved_back_between(weeks, sample_pngs):
    weeks.deliver({"a.png": sample_pngs["cat"][20]})
    weeks.run()
    weeks.deliver({"b.png": sample_pngs["cat"][21]})
    weeks.broken_by.touch()
    with pytest.raises(local.NodeFailedError, match="the training died"):
        weeks.run()
    # As if the second run had begun a day before the first.
    with contextlib.closing(sqlite3.connect(weeks.output / "metadata.sqlite")) as metadata, metadata:
        [last] = metadata.execute(
            "SELECT MAX(Context.id) FROM Context JOIN Type ON Type.id = type_id WHERE Type.name = 'pipeline_run'"
        ).fetchone()
        metadata.execute("UPDATE Context SET create_time_since_epoch = 1 WHERE id = ?", [last])
    weeks.broken_by.unlink()
    weeks.run(from_node="Count")
    assert weeks.counted() == [1, 2] and weeks.store.trained() == 2
