"""What is kept of each run, and the page about all of them."""

import base64
import datetime
import io
import json
import math
import os
import re
import subprocess
import sys

import pytest
from click.testing import CliRunner
from history_runs import Page, Runs, drift_json, metrics
from PIL import Image

from components.report import document
from components.span_ingest.folder import LocalFolder
from pipeline import cli
from pipeline.history import figures
from pipeline.history.charts import all_charts
from pipeline.history.page import write_page
from pipeline.history.records import Delivery, Drift, Record, Records
from pipeline.history.recovery import recover

ATTACK = '<img src=x onerror="alert(1)">'


def png(colour):
    written = io.BytesIO()
    Image.new("RGB", (20, 10), colour).save(written, "PNG")
    return written.getvalue()


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Runs one after the other that are a second each, whatever the clock says."""
    moments = iter(range(1_000))
    from pipeline.history import journal, records

    # Megabytes of a library are hashed, written and parsed again for each page; the browser's test has them.
    monkeypatch.setattr(document, "get_plotlyjs", lambda: "plotly")
    start = records.now()
    monkeypatch.setattr(journal, "now", lambda: start + records.datetime.timedelta(seconds=next(moments)))
    return Runs(tmp_path)


@pytest.mark.parametrize(
    ("told", "cached", "outcome"),
    [
        ({}, False, "promoted"),
        ({}, True, "unchanged"),
        ({"champion": {"version": "2"}, "match": False}, False, "unchanged"),
        ({"pushed": None, "reason": "Kept back: worse."}, False, "kept back"),
        ({"pushed": None, "reason": "Not blessed.", "champion": {}, "match": False}, False, "refused"),
        ({"champion": {}, "match": False, "reason": "Pushed as version 2: the first."}, False, "promoted"),
    ],
)
def test_completed_run_is_told_with_its_decision(runs, told, cached, outcome):
    runs.completes(cached=cached, exit_code=4 if told.get("pushed", 1) is None else 0, **told)
    record = runs.last
    assert record.outcome == outcome
    assert record.words == metrics(**told)["decision"]["reason"]
    assert record.candidate.top1 == 0.5  # of the largest fraction, which is what would be pushed
    assert record.candidate.low == pytest.approx(0.4 if told.get("match", True) else 0.4038, abs=1e-4)
    assert (record.champion_met and record.champion_met.top1) == (0.45 if told.get("match", True) else None)
    assert runs.page.outcomes == [outcome]


def test_candidate_of_a_run_that_distils_is_the_student():
    told = metrics(match=False)
    student = {"arm": "distill", "label_fraction": 1.0, "top1": 0.52, "n_test": 100}
    told["rows"] += [student, {**student, "label_fraction": 0.1, "top1": 0.7}]
    assert figures.of_metrics(told)["candidate"].top1 == 0.52


def test_delivery_window_and_drift_are_on_the_page(runs):
    runs.completes(p_value=0.0031)
    record = runs.last
    counts = record.delivery
    assert (counts.span, counts.read) == (4, 40) and counts.read == counts.kept + counts.duplicate + counts.rejected
    assert (record.new_images, record.window_images, record.window_spans) == (30, 90, 2)
    [row] = filter(None, runs.page.rows)
    assert row[2:10] == ["40", "30", "6", "4", "90", "50.0 40.0 to 60.0", "45.0 40.0 to 60.0", "0.0031"]
    charts = runs.page.charts
    assert set(charts) == {"accuracy", "images", "drift"}
    assert [(bar["name"], bar["y"]) for bar in charts["images"]["data"][:3]] == [
        ("kept", [30]),
        ("duplicate", [6]),
        ("rejected", [4]),
    ]
    assert charts["drift"]["data"][0]["y"] == [0.0031]


def test_run_without_spans_tells_what_it_read(runs):
    journal = runs.begin(command="run")
    artifact = runs.report()
    told = metrics() | {"spans": None, "drift": None}
    (artifact / "metrics.json").write_text(json.dumps(told))
    journal.reported(artifact, [])
    journal.end(None, exit_code=0)
    assert (runs.last.delivery.span, runs.last.delivery.read, runs.last.window_images) == (None, 8, None)


def test_every_report_stays_under_its_own_name_and_one_that_is_the_same_is_kept_once(runs):
    for page in ("first", "second", "second", "third"):
        runs.completes(page)
    links = runs.page.links[-4:]
    assert [(runs.output / link).read_text() for link in links] == ["third", "second", "second", "first"]
    assert len(set(links)) == len(list((runs.output / "history").glob("*.html"))) == 3


@pytest.mark.parametrize("outcome", ["stopped by drift", "data refused", "failed", "interrupted"])
def test_run_that_did_not_end_well_is_told_with_what_it_had_ingested(runs, outcome):
    journal = runs.begin()
    runs.ingests(journal)
    journal.end(outcome, exit_code=3, words="the images are upside down")
    assert (runs.last.outcome, runs.last.exit_code, runs.last.delivery.kept) == (outcome, 3, 30)
    [row] = filter(None, runs.page.rows)
    assert (row[1], row[2], row[-1]) == (outcome, "40", "the images are upside down")


def test_run_that_drift_stopped_is_told_with_its_figures(runs):
    found = {"kind": "embeddings", "words": f"other images {ATTACK}", "policy": "stop"}
    warned = {"kind": "statistics", "words": "darker", "policy": "warn"}
    journal = runs.begin()
    runs.ingests(journal)
    journal.drifted(drift_json(findings=[found, warned]), {"unusual-000.png": png("red")})
    journal.end("stopped by drift", exit_code=3, words=f"The new images have drifted: {found['words']}.")
    drift = runs.last.drift
    assert (drift.p_value, drift.threshold, [one.policy for one in drift.findings]) == (
        0.0005,
        0.005,
        ["stop", "warn"],
    )
    [row] = filter(None, runs.page.rows)
    # What stopped it is why, and is not told twice.
    assert (row[1], row[9], row[-1].count(ATTACK), "drift (warn): darker" in row[-1]) == (
        "stopped by drift",
        "0.0005",
        1,
        True,
    )
    [drawn, _] = runs.page.charts["drift"]["data"]
    assert (drawn["name"], drawn["y"]) == ("drift found", [0.0005])


def test_pictures_of_what_drift_stopped_are_on_a_page_that_the_history_links(runs):
    journal = runs.begin()
    found = {"kind": "embeddings", "words": f"other images {ATTACK}", "policy": "stop"}
    journal.drifted(drift_json(findings=[found]), {"unusual-000.png": png("red")})
    journal.end("stopped by drift", exit_code=3, words="other images")
    [link] = runs.page.links[-1:]
    assert link == f"history/{runs.last.name}-drift.html"
    text = (runs.output / link).read_text("utf-8")
    [picture] = re.findall(r'<img src="data:image/png;base64,([^"]*)"', text)
    with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
        assert (image.size, image.getpixel((0, 0))) == ((20, 10), (255, 0, 0))
    assert "default-src 'none'" in text and "<script" not in text
    assert ATTACK not in text and "&lt;odd&gt;.png" in text and "p = 0.0005" in text


def test_page_about_drift_that_cannot_be_written_is_said_and_the_record_is_there(runs, monkeypatch):
    journal, replace = runs.begin(), LocalFolder.replace

    def full(folder, name, content):
        if name.endswith("-drift.html"):
            raise OSError(28, "No space left on device")
        replace(folder, name, content)

    monkeypatch.setattr(LocalFolder, "replace", full)
    journal.drifted(drift_json(unusual=[]), {})
    journal.end("stopped by drift", exit_code=3, words="other images")
    assert (runs.last.outcome, runs.last.drift_page, runs.last.drift.p_value) == ("stopped by drift", None, 0.0005)
    assert "No space left" in journal.problem


def test_drift_that_could_not_be_compared_has_findings_and_no_figure(runs):
    found = {"kind": "new classes", "words": "'eel' (3)", "policy": "stop"}
    journal = runs.begin()
    journal.drifted(drift_json(embeddings=None, unusual=[], findings=[found]), {})
    journal.end("stopped by drift", exit_code=3, words="'eel' (3)")
    assert (runs.last.drift.p_value, runs.last.drift.findings[0].words) == (None, "'eel' (3)")
    assert runs.page.charts == {}


def test_single_run_has_room_around_it_and_no_axis_of_what_there_is_not(runs):
    journal = runs.begin(command="run")
    artifact = runs.report(champion={}, match=False)
    told = json.loads((artifact / "metrics.json").read_text()) | {"spans": None, "drift": None}
    (artifact / "metrics.json").write_text(json.dumps(told))
    journal.reported(artifact, [])
    journal.end(None, exit_code=0)
    charts = runs.page.charts
    first, last = map(datetime.datetime.fromisoformat, charts["accuracy"]["layout"]["xaxis"]["range"])
    begun = datetime.datetime.fromisoformat(runs.last.started).replace(tzinfo=None)
    assert (begun - first, last - begun) == (datetime.timedelta(minutes=30), datetime.timedelta(minutes=30))
    assert "yaxis2" not in charts["images"]["layout"]
    assert [trace["name"] for trace in charts["images"]["data"]] == ["kept", "duplicate", "rejected"]
    assert [trace["name"] for trace in charts["accuracy"]["data"]] == ["promoted"]


def test_clock_that_is_moved_back_misorders_no_run_and_merges_none_that_differ(tmp_path, monkeypatch):
    """The runs begin at 12:00, 12:01, 10:00 (an hour and more was taken back), 10:01, and 10:01 once more."""
    from pipeline.history import journal

    monkeypatch.setattr(document, "get_plotlyjs", lambda: "plotly")
    noon = datetime.datetime(2026, 3, 2, 12, tzinfo=datetime.timezone.utc)
    minutes = [0, 1, -120, -119, -119]
    moments = iter([moment for minute in minutes for moment in [noon + datetime.timedelta(minutes=minute)] * 2])
    monkeypatch.setattr(journal, "now", lambda: next(moments))
    runs = Runs(tmp_path)
    runs.finds_nothing()
    runs.completes("first")
    runs.finds_nothing()
    runs.completes("second", pushed=None, reason="Kept back: worse.")
    runs.completes("third", pushed=None, reason="Kept back: worse still.")
    told = runs.records.read()[0]
    assert [record.outcome for record in told] == ["nothing new", "promoted", "nothing new", "kept back", "kept back"]
    assert [record.started[11:16] for record in told] == ["12:00", "12:01", "10:00", "10:01", "10:01"]
    assert [record.runs for record in told] == [1] * 5
    assert runs.page.outcomes == ["kept back", "kept back", "nothing new", "promoted", "nothing new"]
    assert "The last run: kept back." in runs.page.text and "worse still" in runs.page.rows[0][-1]
    assert [(runs.output / link).read_text() for link in runs.page.links[-3:]] == ["third", "second", "first"]


def test_too_little_after_an_ingestion_is_waiting_or_nothing_new(runs):
    for new_images, outcome in ((0, "nothing new"), (3, "waiting")):
        journal = runs.begin()
        runs.ingests(journal, proceed=False, new_images=new_images, words=f"{new_images} new")
        journal.end(None, exit_code=0)
        assert (runs.last.outcome, runs.last.words) == (outcome, f"{new_images} new")


def test_run_that_is_killed_has_left_a_trace(runs):
    runs.begin()
    write_page(runs.records)
    [row] = filter(None, runs.page.rows)
    assert (row[1], row[-1]) == ("unfinished", "It still runs, or was killed.")


def test_runs_in_a_row_that_found_nothing_are_told_together_and_others_are_not(runs):
    for _ in range(3):
        runs.finds_nothing()
    runs.completes()
    runs.finds_nothing()
    runs.finds_nothing("2 new images: waiting for more", new_images=2)
    runs.finds_nothing("2 new images: waiting for more", new_images=2)
    assert [(record.outcome, record.runs) for record in runs.records.read()[0]] == [
        ("nothing new", 3),
        ("promoted", 1),
        ("nothing new", 1),
        ("waiting", 2),
    ]
    assert len(list((runs.output / "history").glob("*.json"))) == 4
    assert "3 runs" in runs.page.rows[-1][-1]


def test_deliveries_that_brought_nothing_are_each_told(runs):
    for span in (4, 5):
        journal = runs.begin()
        runs.ingests(journal, proceed=False, new_images=0, words="no new images: nothing to do")
        told = runs.output / "artifacts" / "SpanIngest" / "summary" / "7" / "spans.json"
        changed = json.loads(told.read_text())
        changed["made"]["span"] = span
        told.write_text(json.dumps(changed))
        journal.ingested([str(told.parent)])
        journal.end(None, exit_code=0)
    assert [record.delivery.span for record in runs.records.read()[0]] == [4, 5]


@pytest.mark.parametrize("content", [b"", b"{", b'{"name": "other"}', b"\xff\xfe\x00", b"[1, 2]"])
def test_damaged_record_is_said_and_hides_no_other(runs, content):
    runs.completes("first")
    runs.completes("second")
    damaged = runs.output / "history" / f"{runs.records.read()[0][0].name}.json"
    damaged.write_bytes(content)
    runs.finds_nothing()
    assert runs.page.outcomes == ["nothing new", "promoted"]
    assert f"cannot be read: history/{damaged.name}" in runs.page.text
    assert damaged.read_bytes() == content


def test_record_under_another_name_is_damaged(runs):
    runs.finds_nothing()
    [path] = (runs.output / "history").glob("*.json")
    path.with_name("copy.json").write_bytes(path.read_bytes())
    found, damaged = runs.records.read()
    assert (len(found), damaged) == (1, ["history/copy.json"])


def test_lost_records_are_made_anew_from_the_reports(runs):
    for page, told in (("first", {}), ("second", {"pushed": None}), ("third", {})):
        runs.completes(page, **told)
    lost, kept, _ = runs.records.read()[0]
    (runs.output / "history" / f"{lost.name}.json").unlink()
    (runs.output / "history" / f"{lost.name}.html").unlink()
    [made] = recover(runs.records)
    for field in ("outcome", "words", "candidate", "champion_met", "drift", "delivery", "window_images", "artifact"):
        assert getattr(made, field) == getattr(lost, field), field
    assert made.recovered and made.started == "2026-03-02T03:00:00+00:00"
    assert (runs.output / "history" / made.report).read_text() == "first"
    assert kept in runs.records.read()[0] and recover(runs.records) == []


def test_command_writes_the_page_anew_and_says_what_was_recovered(runs):
    runs.report("only an artifact")
    done = CliRunner().invoke(cli.main, ["history", "--output", str(runs.output)])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == [
        "recovered from artifacts/Report/report/1: promoted",
        f"history: {runs.output / 'history.html'}",
    ]
    assert runs.page.outcomes == ["promoted recovered"]


@pytest.mark.parametrize(
    ("moments", "ticks"),
    [
        (["2026-03-02T03:00:00+00:00", "2026-03-09T03:00:00+00:00"], ["2026-03-02", "2026-03-09"]),
        (["2026-03-02T03:00:00+00:00", "2026-03-02T14:30:00+00:00"], ["03-02 03:00", "03-02 14:30"]),
    ],
)
def test_runs_of_one_day_are_told_apart_under_their_bars(moments, ticks):
    delivery = Delivery(span=1, read=1, kept=1, duplicate=0, rejected=0)
    records = [
        Record(name=moment, command="retrain", started=moment, ended=moment, delivery=delivery) for moment in moments
    ]
    assert list(all_charts(records)["images"].layout.xaxis.ticktext) == ticks


@pytest.mark.parametrize(("span", "bars"), [(3, ["first"]), (None, ["first", "again"])])
def test_delivery_that_a_second_run_goes_on_with_is_one_bar_and_two_points_of_the_window(span, bars):
    delivery = Delivery(span=span, read=171, kept=170, duplicate=0, rejected=1)
    read = {"command": "retrain", "started": "2026-03-02T03:00:00+00:00", "delivery": delivery, "window_images": 400}
    chart = all_charts([Record(name=name, **read) for name in ("first", "again")])["images"]
    assert [list(bar.x) for bar in chart.data[:3]] == [bars] * 3
    assert list(chart.data[3].x) == ["first", "again"]


def test_axis_of_p_values_has_a_tick_a_decade_up_to_one():
    drift = Drift(p_value=0.7, threshold=0.005, findings=())
    record = Record(name="1", command="retrain", started="2026-03-02T03:00:00+00:00", drift=drift)
    axis = all_charts([record])["drift"].layout.yaxis
    low, high = axis.range
    assert axis.dtick == 1 and low < math.log10(0.005) and 0 < high < 1


def test_champion_and_its_changes_by_hand_are_told(runs):
    pushed = runs.output / "pushed"
    pushed.mkdir()
    (pushed / "CHAMPION").write_text("2\n")
    entry = {"champion": 1, "former": 2, "reason": "Rolled back by hand."}
    lines = [
        json.dumps({"time": "2030-01-01T00:00:00+00:00", "event": "rolled back", **entry}),
        json.dumps({"time": "2030-01-01T00:00:00+00:00", "event": "promoted", "candidate": "ab12", **entry}),
        "{ half a li",
    ]
    (pushed / "HISTORY.jsonl").write_text("\n".join(lines) + "\n")
    runs.completes()
    assert runs.last.champion == 2
    assert runs.page.outcomes == ["rolled back", "promoted"]
    assert f"line 3 of {pushed / 'HISTORY.jsonl'}" in runs.page.text


def test_hostile_words_stay_text(runs):
    journal = runs.begin()
    runs.ingests(journal)
    journal.end("failed", exit_code=3, words=f"{ATTACK} \udcff </script><script>alert(2)</script>")
    page = (runs.output / "history.html").read_text("utf-8")
    assert ATTACK not in page and "<script>alert(2)" not in page
    assert "default-src 'none'" in page and 'src="http' not in page and "<link" not in page
    assert len(runs.page.scripts) == 3 and f"{ATTACK} \\udcff" in runs.page.text


def test_output_that_takes_no_history_is_said_and_hides_no_result(runs):
    (runs.output / "history").write_text("in the way")
    journal = runs.begin()
    journal.end("failed", exit_code=1, words="no space left")
    assert "history" in journal.problem and str(runs.output) in journal.problem


def test_run_whose_terminal_has_gone_is_recorded(tmp_path):
    """As it is left behind when a terminal is closed; what it would say has nobody to read it."""
    source = tmp_path / "source"
    source.mkdir()
    command = [sys.executable, "-W", "ignore", "-m", "pipeline", "retrain", "--unlabeled", str(source)]
    command += ["--labeled", str(source), "--output", str(tmp_path / "run")]
    command += ["--set", f"retrain.store={tmp_path / 'store'}"]
    read, write = os.pipe()
    os.close(read)
    assert subprocess.run(command, stdout=write, stderr=write, check=False).returncode == 1
    os.close(write)
    [record] = Records(str(tmp_path / "run")).read()[0]
    assert (record.outcome, record.command, record.exit_code) == ("failed", "retrain", 1)
    assert record.words == "nobody reads what it prints: the terminal or pipe was closed"
    assert Page(tmp_path / "run" / "history.html").outcomes == ["failed"]
