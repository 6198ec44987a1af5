"""The history of runs on Vertex AI, from the summaries and artifacts below a pipeline root on gs://."""

import datetime
import json

import pytest
from history_runs import metrics, spans_json

from components.run_summary.nodes import Node
from components.run_summary.results import Results
from components.run_summary.summary import file_name, run_summary
from pipeline.history.records import Record

_BUCKET, _ROOT = "histories", "gs://histories/runs"
_FIRST = datetime.datetime(2026, 3, 2, 3, tzinfo=datetime.timezone.utc)


def _summary(week: int, *nodes: Node, state: str = "SUCCEEDED") -> dict[str, bytes]:
    """The file that RunSummary leaves of a week's run."""
    started = _FIRST + datetime.timedelta(weeks=week)
    status = {"state": state, "pipelineJobResourceName": f"projects/1/locations/mars/pipelineJobs/simclr-{week}"}
    ended = started + datetime.timedelta(minutes=40)
    told = run_summary(status, nodes=nodes, results=Results(), started=started, configuration="", now=ended)
    return {f"summaries/{file_name(told)}": json.dumps(told).encode()}


def _nodes(spans: int, report: int | None = None, *, state: str = "SUCCEEDED") -> list[Node]:
    """What SpanIngest, Push and Report tell of themselves; None: there was not enough to train on."""
    ingest = Node("SpanIngest", "SUCCEEDED", outputs={"summary": f"{_ROOT}/1/spans-{spans}"})
    if report is None:
        return [ingest, Node("Push", "NOT_TRIGGERED"), Node("Report", "NOT_TRIGGERED")]
    return [ingest, Node("Push", state), Node("Report", state, outputs={"report": f"{_ROOT}/1/report-{report}"})]


@pytest.fixture(scope="module")
def ran(object_store):
    nothing = spans_json(proceed=False, new_images=0, words="no new images: nothing to do", made=False)
    rollback = {"time": "2026-04-20T12:00:00+00:00", "event": "rollback", "champion": 1, "reason": "It saw no cats."}
    files = {
        "1/spans-1/spans.json": json.dumps(spans_json()).encode(),
        "1/spans-2/spans.json": json.dumps(nothing).encode(),
        "1/report-1/metrics.json": json.dumps(metrics()).encode(),
        "1/report-1/report.html": b"the first report",
        "1/report-2/metrics.json": json.dumps(metrics(pushed=None, reason="Worse.")).encode(),
        "1/report-2/report.html": b"the second report",
        "pushed/HISTORY.jsonl": json.dumps(rollback).encode() + b"\n",
        **_summary(0, *_nodes(1, 1)),
        **_summary(1, *_nodes(2)),
        **_summary(2, *_nodes(1, 1, state="SKIPPED")),
        **_summary(3, *_nodes(1, 2)),
        **_summary(4, *_nodes(1)[:1], Node("Drift", "FAILED", error="exit code 1"), state="FAILED"),
        **_summary(5, state="CANCELLED"),
        "summaries/odd.json": b"[1]",
    }
    bucket = object_store.client.create_bucket(_BUCKET)
    for name, content in files.items():
        bucket.blob(f"runs/{name}").upload_from_string(content)
    object_store.run(_ROOT, "history")
    return files


@pytest.fixture(scope="module")
def records(ran, object_store):
    names = [name for name in object_store.names(_BUCKET, "runs/history/") if name.endswith(".json")]
    return [Record.model_validate_json(object_store.read(_BUCKET, name)) for name in names]


def test_each_run_has_a_record_with_its_outcome_as_of_a_run_on_this_machine(records):
    outcomes = ["promoted", "nothing new", "unchanged", "kept back", "failed", "interrupted"]
    assert [record.outcome for record in records] == outcomes
    first, nothing, _, kept_back, failed, _ = records
    assert (first.started, first.ended) == ("2026-03-02T03:00:00+00:00", "2026-03-02T03:40:00+00:00")
    assert (first.delivery.kept, first.champion, first.candidate.top1, first.version_met) == (30, 2, 0.5, "1")
    assert (nothing.words, nothing.delivery) == ("no new images: nothing to do", None)
    assert kept_back.words == "Worse." and failed.words == "Drift: exit code 1"


def test_each_report_is_kept_once_beside_the_records(records, object_store):
    first, _, cached, second, *_ = records
    assert first.report == cached.report
    kept = {record.report: object_store.read(_BUCKET, f"runs/history/{record.report}") for record in (first, second)}
    assert list(kept.values()) == [b"the first report", b"the second report"]
    assert [name for name in object_store.names(_BUCKET, "runs/history/") if name.endswith(".html")] == sorted(
        f"runs/history/{name}" for name in kept
    )


def test_page_links_reports_and_tells_of_rollbacks_and_of_what_cannot_be_read(records, object_store):
    page = object_store.read(_BUCKET, "runs/history.html").decode()
    assert all(f'href="history/{record.report}"' in page for record in records if record.report)
    assert "It saw no cats." in page and "summaries/odd.json" in page


def test_history_written_again_takes_in_what_is_new_alone(records, object_store):
    before = object_store.names(_BUCKET, "runs/")
    [(name, content)] = _summary(6, *_nodes(2)).items()
    object_store.client.bucket(_BUCKET).blob(f"runs/{name}").upload_from_string(content)
    object_store.run(_ROOT, "history")
    new = set(object_store.names(_BUCKET, "runs/")) - set(before)
    assert {name.partition("-")[0] for name in new} == {"runs/summaries/simclr", "runs/history/20260413T030000"}


def test_folder_in_which_no_run_has_left_a_summary_gets_no_page(ran, object_store):
    assert object_store.run("gs://histories/elsewhere", "history_of_nothing")["history_of_nothing"] == [1, 1]
    assert object_store.names(_BUCKET, "elsewhere") == []
