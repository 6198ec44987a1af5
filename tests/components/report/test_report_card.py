"""The model card: figures of the run, in Markdown and HTML, whatever the classes are called."""

import dataclasses
import re
from html.parser import HTMLParser

import pytest
from report_artifacts import write_sources, write_spans

from components.report.card import html_card, markdown_card
from components.report.loading import load_content

HOSTILE = ("cat|dog", "<script>alert(1)</script>", "*bold* `x` [a](javascript:b)")


class Tags(HTMLParser):
    """The names of a document's elements, and its text."""

    def __init__(self, document):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(document)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    return load_content(write_sources(tmp_path_factory.mktemp("run"), n_test=20))


def test_card_tells_the_figures_of_the_run(content):
    card = markdown_card(content)
    candidate = content.candidate.row
    [line] = [line for line in card.splitlines() if f"| {candidate.n_labels} (" in line and "Fine-tuned" in line]
    assert f"{100 * candidate.top1:.1f}%" in line and f"| {candidate.n_test} |" in line
    assert "| unlabeled | 4100 | 4000 | 36 | 64 |" in card
    assert "this model 45.2 (42.2 to 48.2), the champion 43.0 (40.0 to 46.0), difference +2.2 (−0.6 to +5.0)" in card
    assert "4000 labeled and 4000 unlabeled images were compared by content with 1000 test images" in card
    assert "Pretraining started from the encoder and head of the champion, version 2." in card
    assert "5f2c1ab" in card and "temperature: 0.5" in card
    for name in content.embeddings.classes:
        assert name in card


def test_card_tells_of_test_images_that_an_earlier_pretraining_may_have_seen(content, tmp_path):
    told = "an earlier pretraining may have seen, without their labels, before they were test images: 7."
    sources = write_sources(tmp_path, n_test=20)
    write_spans(sources)
    spans = load_content(sources).spans
    assert told in markdown_card(dataclasses.replace(content, spans=spans))
    for none in (None, dataclasses.replace(spans, n_tested_on=0)):
        assert "an earlier pretraining" not in markdown_card(dataclasses.replace(content, spans=none))


def test_html_has_the_tables_and_text_of_the_markdown(content):
    card = markdown_card(content)
    shown = Tags(html_card(card))
    assert shown.tags.count("tr") == len(re.findall(r"^\|", card, re.MULTILINE)) - shown.tags.count("table")
    assert shown.tags.count("h2") == len(re.findall(r"^## ", card, re.MULTILINE))
    assert content.decision.reason in shown.text
    assert "script" not in shown.tags


def test_names_of_classes_stay_text(content):
    embeddings = dataclasses.replace(content.embeddings, classes=HOSTILE)
    shown = Tags(html_card(markdown_card(dataclasses.replace(content, embeddings=embeddings))))
    for name in HOSTILE:
        assert name in shown.text
    assert not {"script", "a", "strong", "em"} & set(shown.tags)
    assert "b" not in Tags(html_card("<b>not from the template</b>")).tags


def test_configuration_cannot_leave_its_block(content):
    hostile = "name: ````\n# Heading\n```\n<b>x</b>\n"
    shown = Tags(html_card(markdown_card(dataclasses.replace(content, configuration=hostile))))
    assert shown.tags.count("h1") == 1 and "b" not in shown.tags
    assert hostile in shown.text


def test_card_of_a_run_without_candidate_or_decision_is_still_written(content):
    bare = dataclasses.replace(content, runs=(), decision=None, started=None, code_version="")
    assert "fine-tuned with a linear head on labels." in markdown_card(bare)
