"""Reads artifact directories, local or gs://, into the report's content."""

import csv
import dataclasses
import io
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
from tfx.dsl.io import fileio

from components.report import content
from components.report.drift import load_drift
from components.report.evaluation import load_class_accuracies
from components.span_ingest.settings import SPANS_FILE

PACKAGES = ("tensorflow", "tf-keras", "tfx", "apache-beam", "ml-metadata", "scikit-learn", "numpy", "plotly")


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where the content comes from: artifact directories by URI, and the component's parameters."""

    ingest_summaries: tuple[str, ...]
    pretrain_run: str
    label_fractions: str
    probe_results: str
    runs: tuple[str, ...] = ()
    evaluation: str | None = None
    blessing: str | None = None
    pushed_model: str | None = None
    leakage: str | None = None
    drift: str | None = None
    artifacts: tuple[content.ArtifactReference, ...] = ()
    configuration: str = ""
    run_record: str = ""
    code_version: str = ""


def load_content(sources: Sources) -> content.ReportContent:
    """Reads everything the page shows.

    Args:
      sources: the artifact directories; those that are None leave their part of the content None.

    Returns:
      The content, with the probe's rows first and then one row a run.

    Raises:
      ValueError: a file lacks a field of its format.
    """
    runs = tuple(_load_run(uri) for uri in sources.runs)
    probe_rows = tuple(_row(value, sources.probe_results) for value in _json(sources.probe_results, "rows.json"))
    embeddings = _load_embeddings(sources.probe_results)
    nodes, started = _load_run_record(sources.run_record)
    return content.ReportContent(
        ingest=tuple(counts for uri in sources.ingest_summaries for counts in _load_ingest(uri)),
        rejects=tuple(reject for uri in sources.ingest_summaries for reject in _load_rejects(uri)),
        spans=next((spans for uri in sources.ingest_summaries if (spans := _load_spans(uri))), None),
        channels=_load_channels(sources.pretrain_run),
        labels=_load_labels(sources.label_fractions),
        rows=probe_rows + tuple(run.row for run in runs),
        pretrain_start=_load_start(sources.pretrain_run),
        pretrain_history=_load_history(sources.pretrain_run),
        views=content.Views(**_arrays(sources.pretrain_run, "views.npz", "original", "view_a", "view_b")),
        embeddings=embeddings,
        runs=runs,
        evaluated_classes=(
            load_class_accuracies(sources.evaluation, embeddings.classes) if sources.evaluation else None
        ),
        decision=_load_decision(sources),
        compared=_load_compared(sources.leakage),
        drift=load_drift(sources.drift) if sources.drift else None,
        nodes=nodes,
        started=started,
        artifacts=sources.artifacts,
        configuration=sources.configuration,
        code_version=sources.code_version,
        versions=installed_versions(),
    )


def installed_versions() -> dict[str, str]:
    """Names the interpreter, the platform and the packages a result depends on; absent ones are left out."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    versions["platform"] = platform.platform()
    return versions


def _load_run(uri: str) -> content.Run:
    rows = _json(uri, "rows.json")
    if len(rows) != 1:
        raise ValueError(f"rows.json of a trained classifier holds one row; {uri} has {len(rows)}.")
    predictions = _arrays(uri, "predictions.npz", "probabilities", "label_index")
    return content.Run(
        row=_row(rows[0], uri),
        history=_load_history(uri),
        classes=tuple(_json(uri, "classes.json")),
        **predictions,
    )


def _row(value: Mapping[str, Any], uri: str) -> content.Row:
    missing = {"arm", "label_fraction", "n_labels", "top1", "n_test"} - value.keys()
    if missing:
        raise ValueError(f"A row needs {sorted(missing)}, which {uri}/rows.json lacks: {dict(value)}.")
    return content.Row(
        arm=str(value["arm"]),
        label_fraction=float(value["label_fraction"]),
        n_labels=int(value["n_labels"]),
        top1=float(value["top1"]),
        top5=None if value.get("top5") is None else float(value["top5"]),
        n_test=int(value["n_test"]),
        seed=int(value.get("seed", 0)),
        settings=dict(value.get("settings") or {}),
    )


def _load_history(uri: str) -> dict[str, np.ndarray]:
    records = list(csv.DictReader(io.StringIO(_text(uri, "history.csv"))))
    if not records:
        return {}
    # A column may be empty on some rows, where it is measured less often than the loss.
    return {
        name: np.array([float(record[name] or "nan") for record in records], np.float64)
        for name in records[0]
        if name
    }


def _load_embeddings(uri: str) -> content.Embeddings:
    arrays = _arrays(uri, "embeddings.npz", "h", "label_index", "key", "image")
    return content.Embeddings(
        h=arrays["h"],
        label_index=arrays["label_index"],
        keys=tuple(key.decode() if isinstance(key, bytes) else str(key) for key in arrays["key"]),
        images=arrays["image"],
        classes=tuple(_json(uri, "classes.json")),
    )


def _load_ingest(uri: str) -> list[content.SourceCounts]:
    counted = ("read", "kept", "duplicate", "rejected")
    return [
        content.SourceCounts(source=source, **{name: int(counts[name]) for name in counted})
        for source, counts in _json(uri, "summary.json").items()
    ]


def _load_rejects(uri: str) -> list[content.Reject]:
    fields = ("source", "uri", "reason", "detail")
    records = [json.loads(line) for line in _text(uri, "rejects.jsonl").splitlines() if line.strip()]
    return [content.Reject(**{name: str(record.get(name, "")) for name in fields}) for record in records]


def _load_spans(uri: str) -> content.Spans | None:
    if not fileio.exists(_join(uri, SPANS_FILE)):
        return None
    told = _json(uri, SPANS_FILE)
    counted = [field.name for field in dataclasses.fields(content.SpanCounts)]
    near = told["near_duplicates"]
    return content.Spans(
        window=tuple(content.SpanCounts(**{name: span[name] for name in counted}) for span in told["window"]),
        decision=told["decision"]["words"],
        notes=tuple(told["notes"]),
        n_near=None if near is None else int(near["found"]),
        near=() if near is None else tuple((new["file"], earlier["file"]) for new, earlier in near["examples"]),
        n_tested_on=int(told["test_images_in_spans"]),
    )


def _load_channels(uri: str) -> content.Channels:
    values = _json(uri, "channels.json")
    return content.Channels(mean=tuple(values["channel_mean"]), std=tuple(values["channel_std"]))


def _load_labels(uri: str) -> content.LabelCounts:
    manifest = _json(uri, "manifest.json")
    return content.LabelCounts(
        fractions={float(name): value["counts"] for name, value in manifest["fractions"].items()},
        classes=tuple(manifest["classes"]),
        n_examples=int(manifest["n_examples"]),
    )


def _load_decision(sources: Sources) -> content.Decision | None:
    if sources.pushed_model and fileio.exists(_join(sources.pushed_model, "decision.json")):
        value = _json(sources.pushed_model, "decision.json")
        return content.Decision(
            blessed=bool(value["blessed"]),
            pushed=value.get("pushed"),
            reason=str(value.get("reason", "")),
            version=str(value.get("version") or ""),
            champion=_champion(value),
            match=_match(value.get("comparison")),
            test_set_changed=value.get("test_set_changed"),
        )
    if sources.blessing:
        return content.Decision(
            # TFX marks a blessing by an empty file of this name.
            blessed=fileio.exists(_join(sources.blessing, "BLESSED")),
            pushed=None,
            reason="This run has no push node.",
            version="",
            champion={},
        )
    return None


def _champion(decision: Mapping[str, Any]) -> dict[str, object]:
    """The version that the candidate met, and its accuracy if it could be scored; empty if there was none."""
    if decision.get("champion_version") is None:
        return {}
    top1 = decision.get("champion_top1")
    return {"version": decision["champion_version"]} | ({} if top1 is None else {"top-1": top1})


def _load_start(pretrain_run: str) -> str | None:
    """Where the pretraining started, in words; None for runs of a code that did not say."""
    return _json(pretrain_run, "start.json")["words"] if fileio.exists(_join(pretrain_run, "start.json")) else None


def _load_compared(leakage: str | None) -> content.Compared | None:
    if leakage is None:
        return None
    value = _json(leakage, "leakage.json")
    return content.Compared(test=int(value["test"]), training={k: int(n) for k, n in value["training"].items()})


def _match(comparison: Mapping[str, Any] | None) -> content.Match | None:
    if not comparison:
        return None

    def estimate(value: str, interval: str) -> content.Estimate:
        low, high = comparison[interval]
        return content.Estimate(value=comparison[value], low=low, high=high)

    return content.Match(
        candidate=estimate("candidate_top1", "candidate_interval"),
        champion=estimate("champion_top1", "champion_interval"),
        difference=estimate("difference", "difference_interval"),
        **{name: comparison[name] for name in ("confidence", "n_images", "won", "lost")},
    )


def _load_run_record(path: str) -> tuple[tuple[content.Node, ...] | None, str | None]:
    if not path or not fileio.exists(path):
        return None, None
    with fileio.open(path, "r") as file:
        record = json.load(file)
    nodes = tuple(
        content.Node(
            name=node["name"],
            # What a cached node took when it was run says more than the moment it took to find its results.
            seconds=float(node.get("executed_seconds", node["seconds"])),
            cached=bool(node.get("cached")),
            inputs=tuple(node.get("inputs", ())),
        )
        for node in record["nodes"]
    )
    return nodes, record.get("started")


def _join(uri: str, name: str) -> str:
    return f"{uri.rstrip('/')}/{name}"


def _text(uri: str, name: str) -> str:
    with fileio.open(_join(uri, name), "rb") as file:
        return file.read().decode()


def _json(uri: str, name: str) -> Any:
    return json.loads(_text(uri, name))


def _arrays(uri: str, name: str, *members: str) -> dict[str, np.ndarray]:
    with fileio.open(_join(uri, name), "rb") as file, np.load(io.BytesIO(file.read())) as archive:
        missing = set(members) - set(archive.files)
        if missing:
            raise ValueError(f"{_join(uri, name)} needs the arrays {sorted(missing)}; it has {archive.files}.")
        return {member: archive[member] for member in members}
