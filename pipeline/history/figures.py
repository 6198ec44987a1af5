"""The figures of a record, from what nodes leave: spans.json of SpanIngest, metrics.json of Report."""

from collections.abc import Iterable, Mapping
from typing import Any

from components.report.candidate import candidate_of
from pipeline.history.records import Accuracy, Delivery, Drift, Found, Outcome

_PUSH_NODE = "Push"
_COUNTED = ("read", "kept", "duplicate", "rejected")


def of_too_little(new_images: int) -> Outcome:
    """The outcome of a run that trained on nothing."""
    return "waiting" if new_images else "nothing new"


def of_spans(told: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a record from spans.json; the outcome is among them only where the run ends with it."""
    decision, made = told["decision"], told["made"]
    fields: dict[str, Any] = {"new_images": decision["new_images"], **_of_window(told["window"])}
    if made is not None:
        fields["delivery"] = Delivery(**made)
    if not decision["proceed"]:
        fields |= {"outcome": of_too_little(decision["new_images"]), "words": decision["words"]}
    return fields


def of_drift_file(told: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a record from drift.json, where the run comes to no metrics."""
    return {"drift": _drift((told["embeddings"] or {}).get("p_value"), told)}


def of_metrics(metrics: Mapping[str, Any], nodes: Iterable[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Fields of a record from metrics.json.

    Args:
        metrics: of the run.
        nodes: of the run; where they say that Push was answered from the cache, nothing was decided anew.
    """
    fields: dict[str, Any] = {}
    if row := candidate_of(metrics.get("rows", ())):
        fields["candidate"] = _scored(row["top1"], row["n_test"])
    if drift := metrics.get("drift"):
        fields["drift"] = _drift(drift["p_value"], drift)
    if decision := metrics.get("decision"):
        cached = any(node["name"] == _PUSH_NODE and node["cached"] for node in nodes)
        fields |= _of_decision(decision, cached=cached)
    if spans := metrics.get("spans"):
        fields |= _of_window(spans["window"])
    elif counts := metrics.get("ingest", {}).get("unlabeled"):
        fields["delivery"] = Delivery(span=None, **{name: counts[name] for name in _COUNTED})
    return fields


def pushed_version(metrics: Mapping[str, Any]) -> int | None:
    """The number of the version that a run pushed, from metrics.json; None: it pushed none."""
    version = (metrics.get("decision") or {}).get("version") or ""
    return int(version) if version.isdecimal() else None


def _drift(p_value: float | None, told: Mapping[str, Any]) -> Drift:
    findings = tuple(Found.model_validate(found) for found in told["findings"])
    return Drift(p_value=p_value, threshold=told["threshold"], findings=findings)


def _of_window(window: list[Mapping[str, Any]]) -> dict[str, int]:
    return {
        "window_images": sum(span["images"] for span in window),
        "window_spans": sum(span["images"] > 0 for span in window),
    }


def _of_decision(decision: Mapping[str, Any], *, cached: bool) -> dict[str, Any]:
    met, match = decision["champion"], decision["match"]
    fields: dict[str, Any] = {"words": decision["reason"], "version_met": met.get("version")}
    outcome: Outcome
    if decision["pushed"]:
        outcome = "unchanged" if cached or met.get("version") == decision["version"] else "promoted"
    else:
        # The Evaluator refuses a model before anybody has looked who the champion is.
        outcome = "kept back" if met else "refused"
    if match:
        estimates = {"candidate": match["candidate"], "champion_met": match["champion"]}
        fields |= {
            name: Accuracy(top1=estimate["value"], low=estimate["low"], high=estimate["high"])
            for name, estimate in estimates.items()
        }
    elif "top-1" in met:
        fields["champion_met"] = Accuracy(top1=met["top-1"])
    return {**fields, "outcome": outcome}


def _scored(top1: float, n_images: int) -> Accuracy:
    # Brings SciPy, which a run that finds nothing new need not load.
    from components.report.analysis import wilson_interval

    low, high = wilson_interval(top1, n_images)
    return Accuracy(top1=top1, low=low, high=high)
