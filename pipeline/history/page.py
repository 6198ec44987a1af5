"""The page about all runs into one output: one file that needs nothing from elsewhere but the reports it links."""

import datetime
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from components.report import document
from components.span_ingest.folder import open_folder
from pipeline.history.charts import all_charts
from pipeline.history.records import FOLDER, Accuracy, Record, Records

PAGE_FILE = "history.html"
_TEMPLATE = "page.html.j2"
_DECISIONS_FILE = "HISTORY.jsonl"


@dataclass(frozen=True)
class ByHand:
    """A change of the champion that no run made."""

    time: str
    event: str
    champion: int | None
    reason: str


def write_page(records: Records, *, pushed: Path | None = None, damaged: Sequence[str] = ()) -> str:
    """Writes the page of an output folder, whole or not at all.

    Args:
        records: of the folder.
        pushed: folder of the versions, whose history tells of rollbacks; None: that of a run on this machine.
        damaged: what else could not be read, in words.

    Returns:
        Its path.
    """
    found, unread_records = records.read()
    root = records.folder.path
    by_hand, unread_lines = read_by_hand(pushed or f"{root}/pushed")
    text = render(found, damaged=[*damaged, *unread_records, *unread_lines], by_hand=by_hand)
    records.folder.replace(PAGE_FILE, text.encode())
    return f"{root}/{PAGE_FILE}"


def render(records: Sequence[Record], *, damaged: Sequence[str] = (), by_hand: Sequence[ByHand] = ()) -> str:
    """Renders the page.

    Args:
        records: the oldest first.
        damaged: what could not be read, in words.
        by_hand: changes of the champion that no run made.
    """
    # Each of the two in its own order, which is right where the clock was not; by time only between them.
    timed = [*zip(_in_order(records), records, strict=True), *zip(_in_order(by_hand), by_hand, strict=True)]
    rows = [row for _, row in sorted(timed, key=lambda pair: pair[0])][::-1]
    values = {"records": records, "rows": rows, "damaged": damaged, "folder": FOLDER, "charts": all_charts(records)}
    template = resources.files(__package__).joinpath(_TEMPLATE).read_text("utf-8")
    filters = {"moment": _moment, "scored": _scored, "interval": _interval, "lasted": _lasted}
    return document.render(template, values, values["charts"], filters=filters)


def read_by_hand(pushed: Path | str) -> tuple[list[ByHand], list[str]]:
    """Reads what people did to the champion's pointer, and which lines of the versions' history are none."""
    found, damaged = [], []
    try:
        content = open_folder(str(pushed)).read(_DECISIONS_FILE)
    except OSError:
        content = None
    if content is None:
        return [], []
    for number, line in enumerate(content.rstrip(b"\n").split(b"\n"), 1):
        try:
            entry = json.loads(line)
            change = ByHand(
                time=datetime.datetime.fromisoformat(entry["time"]).isoformat(),
                event=str(entry["event"]),
                champion=entry["champion"],
                reason=str(entry["reason"]),
            )
            str(change).encode()
        except (ValueError, TypeError, KeyError, RecursionError):
            damaged.append(f"line {number} of {pushed}/{_DECISIONS_FILE}")
            continue
        # A run's decision names its candidate; this is in the run's own record.
        if "candidate" not in entry:
            found.append(change)
    return found, damaged


def _in_order(rows: Sequence[Record] | Sequence[ByHand]) -> list[str]:
    """The moments of rows, none earlier than that of the row before."""
    return list(itertools.accumulate(map(_moment_of, rows), max))


def _moment_of(row: Record | ByHand) -> str:
    return row.ended or row.started if isinstance(row, Record) else row.time


def _moment(iso: str) -> str:
    try:
        return f"{datetime.datetime.fromisoformat(iso):%Y-%m-%d %H:%M}"
    except ValueError:
        return iso


def _scored(accuracy: Accuracy | None) -> str:
    return "" if accuracy is None else f"{100 * accuracy.top1:.1f}"


def _interval(accuracy: Accuracy | None) -> str:
    if accuracy is None or accuracy.low is None:
        return ""
    return f"{100 * accuracy.low:.1f} to {100 * accuracy.high:.1f}"


def _lasted(record: Record) -> str:
    """How long a run took; of several that are told together, that is not known."""
    if record.ended is None or record.runs > 1:
        return ""
    try:
        moments = [datetime.datetime.fromisoformat(moment) for moment in (record.started, record.ended)]
        seconds = round((moments[1] - moments[0]).total_seconds())
    except (ValueError, TypeError):
        return ""
    return f"{seconds // 60} min" if seconds >= 600 else f"{seconds} s"
