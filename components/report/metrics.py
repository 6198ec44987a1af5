"""The report's numbers for programs: metrics.json."""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

from components.report.content import ReportContent, Row, Spans
from components.report.drift import drift_metrics


def metrics_json(content: ReportContent) -> str:
    """Writes rows, ingest counts and the push decision as strict JSON; what is not finite becomes null."""
    return json.dumps(
        {
            "started": content.started,
            "rows": [_row(row) for row in content.rows],
            "ingest": {
                counts.source: {
                    "read": counts.read,
                    "kept": counts.kept,
                    "duplicate": counts.duplicate,
                    "rejected": counts.rejected,
                }
                for counts in content.ingest
            },
            "blessed": content.decision is not None and content.decision.blessed,
            "pushed": None if content.decision is None else content.decision.pushed,
            "pretrain_start": content.pretrain_start,
            "spans": None if content.spans is None else _spans(content.spans),
            "drift": None if content.drift is None else _finite(drift_metrics(content.drift)),
            "decision": None if content.decision is None else _finite(dataclasses.asdict(content.decision)),
        },
        indent=2,
        allow_nan=False,
    )


def spans_of(metrics: Mapping[str, Any]) -> list[int] | None:
    """Numbers of the spans that were trained on, the oldest first; None: the source was read whole.

    Args:
        metrics: of a metrics.json.
    """
    spans = metrics.get("spans")
    return None if spans is None else [span["span"] for span in spans["window"]]


def _row(row: Row) -> dict[str, Any]:
    return _finite(dataclasses.asdict(row))


def _spans(spans: Spans) -> dict[str, Any]:
    return {"decision": spans.decision, "window": [dataclasses.asdict(span) for span in spans.window]}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
