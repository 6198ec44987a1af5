"""A run that distils: page, card, metrics and candidate tell of the student."""

import json

import pytest
from report_artifacts import write_sources

from components.report import sentences
from components.report.candidate import candidate_of
from components.report.card import markdown_card
from components.report.charts import run_chart
from components.report.loading import load_content
from components.report.metrics import metrics_json
from components.report.render import render


def row(arm: str, fraction: float) -> dict:
    return {"arm": arm, "label_fraction": fraction}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], None),
        ([row("linear", 1.0), row("supervised", 1.0)], None),
        ([row("finetune", 0.1), row("finetune", 0.01), row("supervised", 1.0)], row("finetune", 0.1)),
        ([row("finetune", 1.0), row("distill", 0.01), row("distill", 0.1)], row("distill", 0.1)),
    ],
)
def test_candidate_is_of_the_last_step_that_there_is_on_the_most_labels(rows, expected):
    assert candidate_of(iter(rows)) == expected


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    arms = ("finetune", "distill", "supervised")
    return load_content(write_sources(tmp_path_factory.mktemp("run"), n_test=20, arms=arms))


def test_candidate_is_the_student_of_the_largest_fraction(content):
    assert (content.candidate.row.arm, content.candidate.row.label_fraction) == ("distill", 0.1)


def test_student_is_held_against_its_teacher_in_words(content):
    [words] = [line for line in sentences.headline(content.rows).details if "distilled" in line]
    assert words == (
        "On 10% of the labels (400 images) the network distilled on the unlabeled images reaches 47.1%, its "
        "fine-tuned teacher 45.2% (+1.9 points, which may be chance)."
    )


def test_rows_and_curves_of_the_students_are_told_with_their_settings(content):
    rows = [row for row in json.loads(metrics_json(content))["rows"] if row["arm"] == "distill"]
    assert [(row["label_fraction"], row["top1"]) for row in rows] == [(0.01, 0.251), (0.1, 0.471)]
    [student] = [row for row in content.rows if (row.arm, row.label_fraction) == ("distill", 0.1)]
    assert "τ 0.1 · label weight 0.25" in sentences.settings(student)
    drawn = {trace.name for trace in run_chart(content.runs).data}
    assert {"Distilled, 1%", "Distilled, 10%", "Fine-tuned, 10%"} <= drawn


def test_page_and_card_call_the_candidate_what_it_is(content, tmp_path):
    page, card = render(content), markdown_card(content)
    assert "Fine-tuning, distillation, and training from scratch" in page
    assert (
        "- A student: its teacher is an encoder pretrained without labels by SimCLR, fine-tuned with a linear head "
        "on 400 labels (10%), whose answers it learned on the unlabeled images." in card
    )
    without = load_content(write_sources(tmp_path, n_test=20))
    assert "distill" not in markdown_card(without) and "Fine-tuning, and training from scratch" in render(without)
    assert not [line for line in sentences.headline(without.rows).details if "distilled" in line]
