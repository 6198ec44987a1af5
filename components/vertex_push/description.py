"""What the registry says of a version: labels to filter by, and a description to read."""

import re
from collections.abc import Mapping
from typing import Any

from components.report.candidate import candidate_of
from components.report.metrics import spans_of

_MAX_LENGTH = 63
_LEARNED = {"finetune": "fine-tuned on", "distill": "distilled from a network fine-tuned on"}
_ILLEGAL = re.compile(r"[^a-z0-9_-]")


def labels(metrics: Mapping[str, Any], *, commit: str, run: str) -> dict[str, str]:
    """Legal labels: commit, run, accuracies of the pushed model, images of each source, the window's spans.

    Args:
        metrics: the report's metrics.json.
        commit: of the code.
        run: name of the pipeline's job.
    """
    row = candidate_of(metrics["rows"]) or {}
    values = {"git_commit": commit, "run": run}
    values |= {name: f"{row[name]:.3f}" for name in ("top1", "top5") if row.get(name) is not None}
    values |= {name: row[name] for name in ("n_test", "n_labels") if name in row}
    values |= {f"images_{source}": counts["kept"] for source, counts in metrics["ingest"].items()}
    if spans := spans_of(metrics):
        values |= {"span_first": spans[0], "span_last": spans[-1], "n_spans": len(spans)}
    return {_legal(name): _legal(str(value)) for name, value in values.items()}


def description(metrics: Mapping[str, Any], *, commit: str, run: str, reason: str, card: str) -> str:
    """Accuracies, images, spans, verdict, origin and model card, each in a line.

    Args:
        metrics: the report's metrics.json.
        commit: of the code.
        run: name of the pipeline's job.
        reason: why Push has taken the model.
        card: where the model card is.
    """
    row = candidate_of(metrics["rows"])
    lines = []
    if row is not None:
        top5 = "" if row.get("top5") is None else f", top-5 {100 * row['top5']:.1f}%"
        lines.append(
            f"SimCLR {_LEARNED[row['arm']]} {row['n_labels']} labels: top-1 {100 * row['top1']:.1f}%{top5} "
            f"on {row['n_test']} test images"
        )
    lines += [
        f"{source}: {counts['kept']} images of {counts['read']} read" for source, counts in metrics["ingest"].items()
    ]
    if spans := spans_of(metrics):
        lines.append(f"spans: {', '.join(map(str, spans))}")
    lines += [reason, f"run: {run}", f"commit: {commit}", f"model card: {card}"]
    return "\n".join(lines)


def _legal(text: str) -> str:
    return _ILLEGAL.sub("_", text.lower())[:_MAX_LENGTH]
