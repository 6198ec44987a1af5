"""What the nodes of a run have made that a person asks for first: accuracies, the gate's verdict, the version."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tfx.dsl.io import fileio

from components.push.component import DECISION_FILE
from components.report.executor import CARD_FILES, METRICS_FILE, REPORT_FILE
from components.report.metrics import spans_of
from components.run_summary.nodes import Node
from components.vertex_push.component import REGISTRATION_FILE

_ROW = ("arm", "label_fraction", "n_labels", "top1", "top5", "n_test")


@dataclass
class Results:
    """What was found of a run's results; each is None until the node that makes it has ended well.

    Attributes:
        accuracies: rows with the fields `arm`, `label_fraction`, `n_labels`, `top1`, `top5`, `n_test`.
        images: of each source: read, kept, duplicate, rejected.
        spans: numbers of the spans that were trained on, of a source that grows.
        decision: of Push: `blessed`, `reason`, `pushed`, `version`.
        registration: of VertexPusher, see `pusher.Registration`.
        links: URIs of the report, the model card and the pushed version, those that there are.
        unread: what could not be read, and why.
    """

    accuracies: list[dict[str, Any]] | None = None
    images: dict[str, Any] | None = None
    spans: list[int] | None = None
    decision: dict[str, Any] | None = None
    registration: dict[str, Any] | None = None
    links: dict[str, str] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)


def read_results(nodes: Iterable[Node]) -> Results:
    """Reads the results of those nodes that have any; a file that is missing or broken does not hide the others."""
    outputs = {node.name: node.outputs for node in nodes if node.state in ("SUCCEEDED", "SKIPPED")}
    results = Results()
    report = outputs.get("Report", {}).get("report")
    metrics = _read(results, report, METRICS_FILE)
    if metrics is not None:
        results.accuracies = [{name: row.get(name) for name in _ROW} for row in metrics["rows"]]
        results.images = metrics["ingest"]
        results.spans = spans_of(metrics)
        results.links |= {"report": f"{report}/{REPORT_FILE}", "model_card": f"{report}/{CARD_FILES[1]}"}
    decision = _read(results, outputs.get("Push", {}).get("pushed_model"), DECISION_FILE)
    if decision is not None:
        results.decision = {name: decision.get(name) for name in ("blessed", "reason", "pushed", "version")}
        results.links |= {"pushed": decision["pushed"]} if decision["pushed"] else {}
    results.registration = _read(results, outputs.get("VertexPusher", {}).get("registered_model"), REGISTRATION_FILE)
    return results


def _read(results: Results, uri: str | None, name: str) -> Any:
    if uri is None:
        return None
    path = f"{uri}/{name}"
    if not fileio.exists(path):
        results.unread.append(f"{path}: it is not there")
        return None
    try:
        with fileio.open(path, "r") as file:
            return json.load(file)
    except ValueError as error:
        results.unread.append(f"{path}: {error}")
        return None
