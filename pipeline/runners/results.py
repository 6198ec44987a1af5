"""What a run leaves for people and programs: the record of its nodes, `metrics.json`, `report.html`."""

import datetime
import json
import os
import resource
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from components.span_ingest.settings import SPANS_FILE
from pipeline.history.journal import Journal
from pipeline.runners.console import accuracy_table

_IDENTITY_FILE = ".identity"
_LOOK_AT_IMAGES = (
    "ImageExampleGen",
    "SpanIngest",
    "StatisticsGen",
    "SchemaGen",
    "ExampleValidator",
    "AnomalyGate",
    "LeakageGate",
    "Drift",
    "Transform",
    "LabelFractionSplit",
)


@dataclass(frozen=True)
class NodeResult:
    """How a node went.

    Attributes:
        name: of the node.
        seconds: in this run.
        cached: whether earlier results were used.
        inputs: nodes that it reads from or waits for.
        executed_seconds: when its results were made, in this run or an earlier one.
    """

    name: str
    seconds: float
    cached: bool
    inputs: list[str]
    executed_seconds: float


class NodeFailedError(RuntimeError):
    """A node failed.

    Attributes:
        node: its name.
        log: the file that says more, if it has one of its own.
        refused_data: whether it is one that looks at the images, and refused them by a rule.
    """

    def __init__(self, node: str, message: str, *, broke_a_rule: bool, log: Path | None = None) -> None:
        """
        Args:
            node: its name.
            message: what it said, in a few words.
            broke_a_rule: whether the error was a ValueError, by which all parts tell a user's mistake.
            log: as above.
        """
        super().__init__(message)
        self.node, self.log = node, log
        self.refused_data = broke_a_rule and node.partition("-")[0] in _LOOK_AT_IMAGES


class NotPushedError(RuntimeError):
    """A run came to its end, and its model was refused; the message is the reason."""


class RunRecord:
    """The nodes of a run in a JSON file, whole at any moment; the report and `metrics.json` read it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._executed: dict[str, float] = _read_json(path).get("executed_seconds", {})
        self._started = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        self.nodes: list[NodeResult] = []

    def add(self, name: str, seconds: float, *, cached: bool, inputs: list[str]) -> None:
        """Appends a node and writes the file."""
        if not cached:
            self._executed[name] = round(seconds, 2)
        executed = self._executed.get(name, seconds)
        self.nodes.append(NodeResult(name, round(seconds, 2), cached, inputs, round(executed, 2)))
        nodes = [asdict(node) for node in self.nodes]
        _write_json(self._path, {"started": self._started, "nodes": nodes, "executed_seconds": self._executed})


def identity(folder: Path) -> str:
    """A name that a folder keeps for as long as it is there: one that was removed and made anew has another."""
    file = folder / _IDENTITY_FILE
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _replace(str(file), secrets.token_hex(8))
    return file.read_text(encoding="utf-8")


def lay_out(output: Path, report: Path, record: RunRecord) -> dict[str, Any]:
    """Puts the report and `metrics.json` where a person and a program look for them; returns the metrics.

    Args:
        output: folder of the run.
        report: the artifact of the Report node.
        record: of the run's nodes so far.
    """
    metrics = _read_json(str(report / "metrics.json"))
    metrics["nodes"] = [{"name": n.name, "seconds": n.seconds, "cached": n.cached} for n in record.nodes]
    _write_json(str(output / "metrics.json"), metrics)
    _replace(str(output / "report.html"), (report / "report.html").read_text(encoding="utf-8"))
    return metrics


def publish(
    output: Path, report: Path, record: RunRecord, console: Console, *, journal: Journal | None = None
) -> None:
    """Lays out the report and `metrics.json` of a run that has ended, and prints the table.

    Args:
        output: folder of the run.
        report: the artifact of the Report node.
        record: of the run's nodes.
        console: for the table and the places of the model and the report.
        journal: of the run, for the history.

    Raises:
        NotPushedError: the model was refused; all is published.
    """
    metrics = lay_out(output, report, record)
    if journal:
        journal.reported(report, metrics["nodes"])
    console.print()
    console.print(accuracy_table(metrics["rows"]))
    console.print(f"model:  {metrics['pushed'] or 'not pushed'}", markup=False, soft_wrap=True)
    if metrics["decision"]:
        console.print(f"        {metrics['decision']['reason']}", markup=False, soft_wrap=True)
    console.print(f"report: {output / 'report.html'}", markup=False, soft_wrap=True)
    if metrics["decision"] and not metrics["pushed"]:
        raise NotPushedError(metrics["decision"]["reason"])


def decision_in_words(uris: Iterable[str]) -> str:
    """What SpanIngest read and noticed, and whether it found enough to train on.

    Args:
        uris: of its outputs.
    """
    [(uri, told)] = [(uri, found) for uri in uris if (found := _read_json(os.path.join(uri, SPANS_FILE)))]
    lines = [f"note: {note}" for note in told["notes"]]
    if made := told["made"]:
        counts = " + ".join(f"{name} {made[name]}" for name in ("kept", "duplicate", "rejected"))
        why = f"; why rejected: {os.path.join(uri, 'rejects.jsonl')}" if made["rejected"] else ""
        lines.append(f"span {made['span']}: read {made['read']} = {counts}{why}")
    return "\n".join([*lines, told["decision"]["words"]])


def peak_bytes() -> int:
    """The most memory that this process, or one that it started, has held; Linux counts in KiB."""
    held = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return max(held) * 1024


def _read_json(path: str) -> dict[str, Any]:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def _write_json(path: str, value: Any) -> None:
    _replace(path, json.dumps(value, indent=1, ensure_ascii=False))


def _replace(path: str, text: str) -> None:
    """Writes a file that is never seen half written.

    What a kill leaves has a name of its own, so that the next write takes its place: one run at a time writes here.
    """
    partial = f"{path}.partial"
    Path(partial).write_text(text, encoding="utf-8")
    os.replace(partial, path)
