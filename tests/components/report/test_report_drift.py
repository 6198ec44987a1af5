"""The part of the page about drift: there where it was looked for, and text where it comes from outside."""

import dataclasses
import json

import pytest
from report_artifacts import write_drift, write_sources
from test_report_render import _Page

from components.report.drift import load_drift
from components.report.loading import load_content
from components.report.metrics import metrics_json
from components.report.render import render


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    sources = write_sources(root, n_test=10)
    return load_content(
        dataclasses.replace(sources, drift=write_drift(root / "drift", key="<script>alert(1)</script>"))
    )


@pytest.fixture(scope="module")
def page(content):
    return render(content)


def test_page_tells_what_was_found_by_which_test_and_how_often_it_would_be_chance(page):
    text = " ".join(_Page(page).text.split())
    assert "in at most 1% of runs" in text
    assert "the champion sees other images: MMD² 0.0312" in text
    assert "version 3: MMD² 0.0312, 0.0021 on average after shuffling new and old; p = 0.0005" in text
    assert "500 of 1,200 new images against 500 of 4,000 of the window" in text
    assert "blue 0.35 where the window has 0.3" in text
    assert "labels that the champion does not know: '<zebra>' (2)" in text
    assert 'href="#drift"' in page


def test_unusual_image_is_shown_and_its_key_stays_text(page):
    assert "2.7 ×" in page
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


@pytest.fixture(scope="module")
def page_without_champion(content):
    calm = [dataclasses.replace(row, p_value=0.3) if row.name == "blue" else row for row in content.drift.statistics]
    drift = dataclasses.replace(
        content.drift,
        **dict.fromkeys(("p_value", "mmd2", "expected")),
        findings=(("not compared", "images were not compared by embeddings: there is no champion yet", "warn"),),
        statistics=tuple(calm),
        not_compared="there is no champion yet",
    )
    return render(dataclasses.replace(content, drift=drift))


def test_alarm_stands_out_from_what_is_none(page_without_champion):
    assert '<tr class="best"><th scope="row">brightness' in page_without_champion
    assert '<tr><th scope="row">blue' in page_without_champion


def test_run_that_could_not_compare_says_why(page_without_champion):
    text = " ".join(_Page(page_without_champion).text.split())
    assert "not compared: images were not compared by embeddings: there is no champion yet" in text
    assert "No drift was found." not in text


def test_run_that_did_not_look_for_drift_has_no_such_part(content):
    page = render(dataclasses.replace(content, drift=None))
    assert "#drift" not in page and "Most unusual" not in page
    assert json.loads(metrics_json(dataclasses.replace(content, drift=None)))["drift"] is None


def test_metrics_hold_the_findings_and_no_images(content, tmp_path):
    drift = json.loads(metrics_json(content))["drift"]
    assert drift["images"] == {"new": 1200, "window": 4000}
    assert [(found["kind"], found["policy"]) for found in drift["findings"]] == [
        ("embeddings", "warn"), ("statistics", "warn"), ("new classes", "warn"),
    ]  # fmt: skip
    assert "picture" not in json.dumps(drift)
    assert load_drift(write_drift(tmp_path / "again")).unusual[0].picture.startswith(b"\x89PNG")
