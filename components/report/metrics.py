"""The report's numbers for programs: metrics.json."""

import dataclasses
import json
import math
from typing import Any

from components.report.content import ReportContent, Row
from components.report.drift import drift_metrics


def metrics_json(content: ReportContent) -> str:
    """Writes rows, ingest counts and the push decision as strict JSON; what is not finite becomes null."""
    return json.dumps(
        {
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
            "drift": None if content.drift is None else _finite(drift_metrics(content.drift)),
            "decision": None if content.decision is None else _finite(dataclasses.asdict(content.decision)),
        },
        indent=2,
        allow_nan=False,
    )


def _row(row: Row) -> dict[str, Any]:
    return _finite(dataclasses.asdict(row))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
