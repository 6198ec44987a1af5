"""Records of runs on Vertex AI, made from what RunSummary leaves of each below the pipeline root."""

import datetime
import json
from collections.abc import Mapping
from typing import Any

from components.span_ingest.folder import open_folder
from components.span_ingest.settings import SPANS_FILE
from pipeline.history import figures
from pipeline.history.records import FOLDER, METRICS_FILE, REPORT_FILE, Record, Records, name_of

_SUMMARIES = "summaries"
_COMMAND = "submit"
_CACHED = "SKIPPED"


def take_in(records: Records) -> tuple[list[Record], list[str]]:
    """Writes a record of each run that has a summary and no record yet, and keeps its report.

    Args:
        records: of a pipeline root on gs://.

    Returns:
        What was written, and the names of summaries that are none.

    Raises:
        FileNotFoundError: there is no summary at all.
        google.api_core.exceptions.GoogleAPIError: the store refuses.
    """
    known = records.read()[0]
    names = {record.name for record in known}
    reports = {record.artifact: record.report for record in known if record.report}
    made, damaged = [], []
    files = sorted(records.folder.sizes(_SUMMARIES))
    if not files:
        raise FileNotFoundError(
            f"no run has left a summary in {records.folder.path}/{_SUMMARIES}: give a pipeline root"
        )
    for file in files:
        try:
            summary = json.loads(records.folder.read(file) or b"")
            started = datetime.datetime.fromisoformat(summary["started"] or summary["ended"])
            name = name_of(summary["job"] or file, started)
            if name in names:
                continue
            told = _told(summary)
            if artifact := told.get("artifact"):
                told["report"] = reports.get(artifact) or _keep(artifact, f"{name}.html", records)
                reports[artifact] = told["report"]
            record = Record(name=name, command=_COMMAND, started=started.isoformat(), **told)
            records.write(record)
        except (ValueError, KeyError, TypeError, AttributeError, FileNotFoundError):
            damaged.append(file)
            continue
        made.append(record)
    return made, damaged


def _keep(artifact: str, name: str, records: Records) -> str:
    """Copies a report beside the records, and returns its name there."""
    open_folder(artifact).copy_out(REPORT_FILE, f"{records.folder.path}/{FOLDER}/{name}")
    return name


def _told(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a record: what SpanIngest and Report have left, and, of a run that failed, which node did and why."""
    nodes = {node["name"]: node for node in summary["nodes"] or ()}
    # Where nobody could be asked how the nodes went, that is all there is to say.
    told: dict[str, Any] = {"outcome": "in part", "ended": summary["ended"], "words": "; ".join(summary["unread"])}
    if spans := _read(_output(nodes, "SpanIngest", "summary"), SPANS_FILE):
        told |= figures.of_spans(spans)
    artifact = _output(nodes, "Report", "report")
    if metrics := _read(artifact, METRICS_FILE):
        cached = [{"name": name, "cached": node["state"] == _CACHED} for name, node in nodes.items()]
        told |= figures.of_metrics(metrics, cached)
        told |= {"artifact": artifact, "champion": figures.pushed_version(metrics)}
    if not summary["succeeded"]:
        error = (summary["error"] or {}).get("message", "")
        told["outcome"] = "interrupted" if summary["state"] == "CANCELLED" else "failed"
        told["words"] = "; ".join(f"{failed['node']}: {failed['error']}" for failed in summary["failed"]) or error
    return told


def _output(nodes: Mapping[str, Mapping[str, Any]], node: str, key: str) -> str | None:
    found = nodes.get(node)
    return found["outputs"].get(key) if found and found["state"] in ("SUCCEEDED", _CACHED) else None


def _read(uri: str | None, name: str) -> dict[str, Any]:
    content = open_folder(uri).read(name) if uri else None
    return json.loads(content) if content else {}
