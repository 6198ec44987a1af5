"""Records that were lost, made anew from what the pipeline keeps itself: the artifacts of its reports."""

import datetime
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.history import figures
from pipeline.history.records import FOLDER, METRICS_FILE, REPORT_FILE, Delivery, Record, Records, new_name

# Where runs on this machine and rehearsals keep them.
_ARTIFACTS = ("artifacts/Report/**", "buckets/**")


def recover(records: Records) -> list[Record]:
    """Writes a record of each report that no record tells of. What found nothing, or failed, has left none.

    Args:
        records: of an output folder.

    Returns:
        What was written.
    """
    root = Path(records.folder.path)
    known = {record.artifact for record in records.read()[0]}
    made = []
    for artifact in _reports(root):
        name = os.path.relpath(artifact, root)
        if name in known:
            continue
        record = _record(artifact, name)
        records.folder.replace(f"{FOLDER}/{record.report}", (artifact / REPORT_FILE).read_bytes())
        records.write(record)
        made.append(record)
    return made


def _reports(root: Path) -> Iterator[Path]:
    found = {path.parent for pattern in _ARTIFACTS for path in root.glob(f"{pattern}/{METRICS_FILE}")}
    return iter(sorted(folder for folder in found if (folder / REPORT_FILE).exists()))


def _record(artifact: Path, name: str) -> Record:
    metrics = json.loads((artifact / METRICS_FILE).read_text(encoding="utf-8"))
    written = datetime.datetime.fromtimestamp((artifact / METRICS_FILE).stat().st_mtime, datetime.timezone.utc)
    started = datetime.datetime.fromisoformat(metrics["started"]) if metrics.get("started") else written
    told: dict[str, Any] = {"outcome": "in part", **figures.of_metrics(metrics)}
    if spans := metrics.get("spans"):
        newest = spans["window"][-1]
        told["delivery"] = Delivery.model_validate(newest)
    file = new_name(started.astimezone(datetime.timezone.utc))
    return Record(
        name=file,
        command="",
        started=started.isoformat(timespec="seconds"),
        ended=written.isoformat(timespec="seconds"),
        champion=figures.pushed_version(metrics),
        artifact=name,
        report=f"{file}.html",
        recovered=True,
        **told,
    )
