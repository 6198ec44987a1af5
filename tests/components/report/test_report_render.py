import dataclasses
import json
from html.parser import HTMLParser

import numpy as np
import pytest
from report_artifacts import CLASSES, write_sources, write_spans

from components.report import graph, sentences, style
from components.report.card import html_card, markdown_card
from components.report.content import ClassAccuracy, Node
from components.report.loading import load_content
from components.report.metrics import metrics_json
from components.report.render import render

ATTACK = "<script>alert(1)</script>"


class _Page(HTMLParser):
    """Collects the page's text outside scripts and its scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts, self.text, self._inside = [], "", None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.text += data


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    return load_content(write_sources(tmp_path_factory.mktemp("run"), n_test=30))


def test_page_leads_with_the_result(content):
    text = _Page(render(content)).text

    assert (
        "On 10% of the labels (400 images) the pretrained network reaches 45.2%, "
        "the same network from scratch 38.9%." in text
    )
    assert "42.1–48.3" in text
    assert "The first 50 of 64 rejected" in text


def test_page_tells_the_champion_and_the_channels(content):
    text = _Page(render(content)).text

    assert "version 2 · top-1 0.43" in text
    assert "the contents of 4,000 labeled and 4,000 unlabeled images were held against those of 1,000 test" in text
    assert "Pretraining started from the encoder and head of the champion, version 2." in text
    assert "mean 0.491, 0.482, 0.447; standard deviation 0.250, 0.240, 0.260" in text


def test_page_tells_the_match_with_the_champion_and_that_the_test_set_changed(content):
    text = _Page(render(content)).text

    assert "45.2 (42.2 to 48.2)" in text and "43.0 (40.0 to 46.0)" in text
    assert "+2.2 (−0.6 to +5.0)" in text
    assert "the candidate 112 times, the champion 90 times" in text
    assert "another than when the champion was pushed" in text


def test_page_tells_of_the_spans_where_the_source_grows(content, tmp_path):
    assert "Window of spans" not in _Page(render(content)).text
    sources = write_sources(tmp_path, n_test=30)
    write_spans(sources, file_name=ATTACK)
    page = render(load_content(sources))
    text = _Page(page).text
    for words in (
        "Window of spans",
        "1 new image, 10 in the window.",
        f"2 files were ingested once and are there no more; their images stay, such as {ATTACK}",
        f"1 of the new images look almost like an earlier one: {ATTACK} like week1.tar!old.png. They stay.",
    ):
        assert words in text
    assert ATTACK not in page


def test_page_names_no_other_host(content):
    page = render(content)

    assert "default-src 'none'" in page
    assert 'src="http' not in page
    assert "<link" not in page


def test_page_has_a_chart_for_each_figure(content):
    page = render(content)
    figures = json.loads(_Page(page).scripts[0])

    assert set(figures) == {
        "accuracy", "pretrain-curves", "run-curves", "map", "confusion", "per-class", "lineage", "times",
    }  # fmt: skip
    assert all(f'id="chart-{name}"' in page for name in figures)


def test_hostile_names_stay_text(tmp_path):
    classes = (ATTACK, "<b>bold</b>", *CLASSES[2:])
    page = render(load_content(write_sources(tmp_path, classes=classes, n_test=30, file_name=ATTACK)))
    parsed = _Page(page)

    # The data, plotly and our own script; nothing that a name brought.
    assert len(parsed.scripts) == 3
    assert ATTACK in parsed.text
    assert ATTACK not in page
    # In a chart's text the name is escaped once more, because plotly would read tags.
    assert "&lt;b&gt;bold" in json.loads(parsed.scripts[0])["confusion"]["data"][0]["x"][1]


def test_absent_inputs_are_explained(content):
    bare = dataclasses.replace(content, runs=(), rows=(), decision=None, nodes=None, rejects=(), configuration="")
    text = _Page(render(bare)).text

    for reason in (
        "no two arms on the same labels",
        "trained no classifier",
        "no candidate whose confusions",
        "neither evaluated nor pushed",
        "The graph of nodes is not available on this runner",
        "Times of nodes are not available on this runner",
        "every input that was read is an image",
        "passed no configuration",
    ):
        assert reason in text


def test_thousand_classes_are_cut_and_said_so(tmp_path):
    classes = tuple(f"class {index}" for index in range(1000))
    page = render(load_content(write_sources(tmp_path, classes=classes, n_test=200)))

    assert len(page) < 6_000_000
    text = _Page(page).text
    assert "The 30 most frequent classes; the other 970 are taken together." in text
    assert "The 30 classes with the most labels are shown." in text


def test_ten_thousand_classes_make_page_and_card_no_longer_than_thirty(tmp_path):
    classes = tuple(f"class {index:05}" for index in range(10_000))
    content = load_content(write_sources(tmp_path, classes=classes, n_test=1000))
    page = render(content)
    assert len(page) < 7_000_000  # of which the library of the charts is five
    assert "the other 9,970 are taken together" in page and "The 30 classes with the most labels are shown." in page
    evaluated = tuple(ClassAccuracy(name=name, accuracy=0.5, n=1) for name in classes)
    card = markdown_card(dataclasses.replace(content, evaluated_classes=evaluated))
    assert card.count("class 0") == 60 and len(html_card(card)) < 30_000
    assert "and 9970 more, which `assets.extra/classes.json`" in card
    assert "The 30 classes with the most test images, of 10000." in card


def test_name_of_four_thousand_letters_leaves_room_for_its_chart_and_stays_apart_from_others():
    names = {style.plain("n" * 4000 + end) for end in ("1", "2", "<b>")}
    assert len(names) == 3 and max(map(len, names)) <= 60
    assert style.plain("a\n\U0001f408 =1+1 <b>\x7f") == "a␊\U0001f408 =1+1 &lt;b&gt;␡"


def test_tiny_test_set_renders(tmp_path):
    content = load_content(write_sources(tmp_path, n_test=1))

    assert "Neighbours need at least two test images" in render(content)


def _rows(content, finetune: float, supervised: float):
    replaced = {"finetune": finetune, "supervised": supervised}
    return [
        dataclasses.replace(row, top1=replaced[row.arm])
        for row in content.rows
        if row.arm in replaced and row.label_fraction == 0.1
    ]


@pytest.mark.parametrize(
    ("finetune", "supervised", "verdict"),
    [
        (0.5, 0.4, "Pretraining helps by 10.0 points"),
        (0.4, 0.5, "Pretraining harms by 10.0 points"),
        (0.4, 0.405, "The difference of −0.5 points"),
    ],
)
def test_headline_is_honest_in_each_direction(content, finetune, supervised, verdict):
    details = sentences.headline(_rows(content, finetune, supervised)).details

    assert details[0].startswith(verdict)


def test_headline_without_fine_tuning_compares_the_probes(content):
    rows = [row for row in content.rows if row.arm in ("linear", "random")]

    assert "linear probe of the pretrained encoder reaches 42.1%" in sentences.headline(rows).title


def test_lineage_leaves_out_what_others_imply():
    nodes = [
        Node(name="a", seconds=1, cached=False, inputs=()),
        Node(name="b", seconds=1, cached=True, inputs=("a",)),
        Node(name="c", seconds=1, cached=False, inputs=("a", "b", "not recorded")),
    ]

    figure = graph.lineage_chart(nodes)

    assert len(figure.layout.shapes) == 2
    assert [annotation.y for annotation in figure.layout.annotations] == [0, -1, -2]


def test_metrics_hold_the_contract(content):
    metrics = json.loads(metrics_json(content))

    assert set(metrics) == {
        "started", "rows", "ingest", "blessed", "pushed", "decision", "drift", "pretrain_start", "spans",
    }  # fmt: skip
    assert len(metrics["rows"]) == 10
    assert set(metrics["rows"][0]) == {
        "arm", "label_fraction", "n_labels", "top1", "top5", "n_test", "seed", "settings",
    }  # fmt: skip
    assert metrics["ingest"]["unlabeled"] == {"read": 4100, "kept": 4000, "duplicate": 36, "rejected": 64}
    assert metrics["blessed"] is True
    assert metrics["pushed"] == "runs/local/serving/3"
    assert metrics["decision"]["reason"].startswith("Pushed as version 3: top-1 0.4520")
    assert metrics["decision"]["match"]["difference"] == {"value": 0.022, "low": -0.006, "high": 0.05}


def test_metrics_tell_of_the_window_where_the_source_grows(content, tmp_path):
    assert json.loads(metrics_json(content))["spans"] is None
    sources = write_sources(tmp_path, n_test=30)
    write_spans(sources)
    spans = json.loads(metrics_json(load_content(sources)))["spans"]
    assert spans["decision"] == "1 new image, 10 in the window"
    newest = {"span": 2, "read": 3, "kept": 1, "duplicate": 2, "rejected": 0, "images": 1}
    assert {**spans["window"][-1], **newest} == spans["window"][-1]


def test_metrics_without_a_decision_are_not_blessed(content):
    metrics = json.loads(metrics_json(dataclasses.replace(content, decision=None)))

    assert (metrics["blessed"], metrics["pushed"], metrics["decision"]) == (False, None, None)


def test_metric_that_is_not_finite_becomes_null(content):
    row = dataclasses.replace(content.rows[0], settings={"C": np.inf})
    metrics = json.loads(metrics_json(dataclasses.replace(content, rows=(row,))))

    assert metrics["rows"][0]["settings"] == {"C": None}
