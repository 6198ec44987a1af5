"""A tiny run that distils after one that did not: its images come from the cache, and the student is pushed."""

import json
import shutil
from pathlib import Path

import pytest

from trainer import export

pytestmark = pytest.mark.slow  # two whole runs

_DISTIL = ("distill.enabled=true", "distill.epochs=1", "distill.batch_size=16", "distill.label_weight=0.5")
_SETTINGS = [argument for setting in _DISTIL for argument in ("--set", setting)]
_RUN_ANEW = {"Distill-50pct", "Distill-100pct", "Evaluator", "Push", "Report"}


@pytest.fixture(scope="module")
def distilled(cli, first_run, tmp_path_factory):
    """The run with a copy of the other's store of metadata, by which it finds that one's artifacts."""
    output = tmp_path_factory.mktemp("runs") / "distilled"
    output.mkdir()
    shutil.copy(first_run.output / "metadata.sqlite", output)
    finished = cli.run(output, *_SETTINGS)
    assert finished.code == 0, finished.out + finished.err
    return finished


def test_distillation_adds_its_nodes_and_ingests_nothing_again(distilled):
    assert set(distilled.executed) >= _RUN_ANEW
    # In another output Pretrain has checkpoints of its own, and so begins anew; its images are the same.
    assert "Transform-unlabeled" not in distilled.executed and "LabelFractionSplit" not in distilled.executed


def test_student_is_scored_reported_and_pushed(distilled, first_run):
    rows = {(row["arm"], row["label_fraction"]): row for row in distilled.metrics["rows"]}
    assert {fraction for arm, fraction in rows if arm == "distill"} == {0.5, 1.0}
    student, teacher = rows["distill", 1.0], rows["finetune", 1.0]
    assert (student["n_labels"], student["n_test"]) == (teacher["n_labels"], teacher["n_test"])
    for (arm, _), row in rows.items():
        assert arm != "distill" or row["settings"]["steps"] > 72 // 16  # as many as the unlabeled images alone give
    (evaluated,) = distilled.output.glob("artifacts/Push/pushed_model/*/decision.json")
    assert json.loads(evaluated.read_text())["blessed"] is True
    assert "distill" in distilled.out
    assert "A student: its teacher is" in next(distilled.output.glob("artifacts/Report/**/model_card.md")).read_text()
    pushed = export.load_classifier(distilled.metrics["pushed"])[0].get_weights()
    (made,) = distilled.output.glob("artifacts/Distill-100pct/model/*/Format-Serving")
    ours = export.load_classifier(str(made))[0].get_weights()
    assert len(pushed) == len(ours) and all((a == b).all() for a, b in zip(pushed, ours, strict=True))


def test_compiled_distillation_ends_with_the_numbers_of_the_local_run(cli, distilled, tmp_path):
    rehearsed = cli.rehearse(tmp_path / "rehearsed", *_SETTINGS)
    assert rehearsed.code == 0, rehearsed.out + rehearsed.err
    assert rehearsed.metrics["rows"] == distilled.metrics["rows"]
    log = Path(rehearsed.output, "logs", "Distill-100pct.log").read_text()
    assert "components.distill.executor.Executor" in log and "simclr-distill" in log
