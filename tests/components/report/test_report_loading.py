import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from report_artifacts import CLASSES, write_decision, write_sources, write_spans

from components.report.loading import load_content


@pytest.fixture
def sources(tmp_path):
    return write_sources(tmp_path, n_test=20)


def test_a_whole_run_loads_with_every_row(sources):
    content = load_content(sources)

    arms = {(row.arm, row.label_fraction) for row in content.rows}
    assert arms == {
        (arm, fraction) for arm in ("linear", "finetune", "supervised", "random", "knn") for fraction in (0.01, 0.1)
    }
    assert content.embeddings.classes == CLASSES
    assert content.embeddings.h.shape == (20, 64)
    assert [counts.source for counts in content.ingest] == ["unlabeled", "labeled", "test"]
    assert content.labels.fractions[0.01]["cat"] == 4
    assert content.decision.pushed == "runs/local/serving/3"
    assert content.nodes[-1].inputs == ("FineTune-0.1", "Evaluator")
    assert content.versions["tfx"].startswith("1.")


def test_candidate_is_the_fine_tuned_run_on_the_largest_fraction(sources):
    row = load_content(sources).candidate.row

    assert (row.arm, row.label_fraction) == ("finetune", 0.1)


def test_empty_cell_of_a_history_is_not_a_number(sources):
    Path(sources.pretrain_run, "history.csv").write_text("step,epoch,loss,contrastive_accuracy\n0,0.5,2.0,\n")

    history = load_content(sources).pretrain_history

    assert history["loss"].tolist() == [2.0]
    assert np.isnan(history["contrastive_accuracy"]).all()


def test_spans_of_a_source_that_grows_are_told(sources):
    assert load_content(sources).spans is None
    write_spans(sources)
    spans = load_content(sources).spans
    assert [(counts.span, counts.read, counts.images) for counts in spans.window] == [(1, 12, 9), (2, 3, 1)]
    assert spans.decision == "1 new image, 10 in the window"
    assert (spans.n_near, spans.near) == (1, (("new.png", "week1.tar!old.png"),))
    assert spans.n_tested_on == 7


@pytest.mark.parametrize("blessed", [True, False])
def test_champion_that_the_candidate_met_is_told(sources, tmp_path, blessed):
    write_decision(tmp_path / "pushed", blessed=blessed)

    assert load_content(sources).decision.champion == {"version": "2", "top-1": 0.43}


def test_first_model_has_no_champion_to_tell_of(sources):
    path = Path(sources.pushed_model, "decision.json")
    met = {"champion_version": None, "champion_top1": None}
    path.write_text(json.dumps(json.loads(path.read_text()) | met))

    assert load_content(sources).decision.champion == {}


def test_absent_optional_inputs_are_none(sources):
    content = load_content(dataclasses.replace(sources, pushed_model=None, run_record="", runs=()))

    assert content.decision is None
    assert content.nodes is None
    assert content.candidate is None


@pytest.mark.parametrize(("mark", "blessed"), [("BLESSED", True), ("NOT_BLESSED", False)])
def test_blessing_alone_tells_what_was_decided(sources, tmp_path, mark, blessed):
    (tmp_path / "blessing").mkdir()
    (tmp_path / "blessing" / mark).touch()

    decision = load_content(
        dataclasses.replace(sources, pushed_model=None, blessing=str(tmp_path / "blessing"))
    ).decision

    assert decision.blessed is blessed
    assert decision.pushed is None


def test_refused_candidate_has_no_address(sources, tmp_path):
    write_decision(tmp_path / "pushed", blessed=False)

    decision = load_content(sources).decision

    assert (decision.blessed, decision.pushed) == (False, None)


def test_row_without_accuracy_is_refused_by_name(sources):
    rows = [{"arm": "finetune", "label_fraction": 0.1, "n_labels": 3, "n_test": 9}]
    Path(sources.runs[0], "rows.json").write_text(json.dumps(rows))

    with pytest.raises(ValueError, match="top1"):
        load_content(sources)


def test_missing_array_is_refused_by_name(sources):
    np.savez(Path(sources.pretrain_run, "views.npz"), original=np.zeros((1, 2, 2, 3), np.uint8))

    with pytest.raises(ValueError, match="view_a"):
        load_content(sources)
