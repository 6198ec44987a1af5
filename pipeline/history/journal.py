"""What a run tells of itself while it goes on; at its end that is its record, and the page is written anew."""

import filecmp
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from components.span_ingest.settings import SPANS_FILE
from pipeline.history import figures
from pipeline.history.records import FOLDER, METRICS_FILE, REPORT_FILE, Outcome, Record, Records, now

_MOST_LETTERS = 4_000
_CHAMPION_FILE = "CHAMPION"
# Runs that did nothing, for the same reason, one after the other: a watch makes thousands of them a year.
_TOLD_TOGETHER: tuple[Outcome, ...] = ("nothing new", "waiting")


class Journal:
    """Of one run. What cannot be written is no reason for a run to fail: `problem` then says why, in words."""

    def __init__(self, output: str, command: str) -> None:
        """Writes that a run has begun, so that one that is killed has left a trace.

        Args:
            output: folder of all that the run leaves.
            command: that started it.
        """
        self.problem: str | None = None
        self._records = Records(output)
        self._output = Path(self._records.folder.path)
        self._pushed: Path | None = None
        moment = now()
        self._record = Record(name=self._records.next_name(moment), command=command, started=moment.isoformat())
        self._told: dict[str, Any] = {}
        self._write(self._record)

    def pushes_into(self, folder: Path) -> None:
        """Notes where the versions are, and the pointer to the champion."""
        self._pushed = folder

    def looked(self, words: str, *, new_images: int) -> None:
        """Notes that a look at the source was enough: there is too little to do anything."""
        outcome = figures.of_too_little(new_images)
        self._told |= {"outcome": outcome, "words": words, "new_images": new_images}

    def ingested(self, uris: Iterable[str]) -> None:
        """Notes what SpanIngest found, from its outputs."""
        for uri in uris:
            told = _read_json(os.path.join(uri, SPANS_FILE))
            self._told |= figures.of_spans(told) if told else {}

    def drifted(self, told: Mapping[str, Any], pictures: Mapping[str, bytes]) -> None:
        """Notes what Drift found, of a run that it stops, and keeps a page about it: there will be no report.

        Args:
            told: what drift.json says, or would.
            pictures: the most unusual images, PNG by the file names in drift.json.
        """
        self._told |= figures.of_drift_file(told)
        # Brings TFX, which a run that comes so far has loaded.
        from components.report.drift import drift_of, render_page

        name = f"{self._record.name}-drift.html"
        try:
            self._records.folder.replace(f"{FOLDER}/{name}", render_page(drift_of(told, pictures)).encode())
            self._told["drift_page"] = name
        except OSError as error:
            self._cannot(error)

    def reported(self, artifact: Path, nodes: Iterable[Mapping[str, Any]]) -> None:
        """Notes what a run came to, and keeps its report.

        Args:
            artifact: folder of the Report's artifact.
            nodes: of the run, with `name` and `cached`.
        """
        self._told |= figures.of_metrics(_read_json(str(artifact / METRICS_FILE)), nodes)
        self._told["artifact"] = os.path.relpath(artifact, self._output)
        try:
            self._told["report"] = self._keep(artifact / REPORT_FILE)
        except OSError as error:
            self._cannot(error)

    def end(self, outcome: Outcome | None, *, exit_code: int, words: str = "") -> None:
        """Writes the record and the page.

        Args:
            outcome: None: as what was told says.
            exit_code: of the program.
            words: why, where what was told does not say.
        """
        # What a name of a file is not in any encoding is in no JSON either.
        words = words[:_MOST_LETTERS].encode(errors="backslashreplace").decode()
        told = self._told | ({"outcome": outcome} if outcome else {}) | ({"words": words} if words else {})
        told.setdefault("outcome", "in part")
        record = self._record.model_copy(
            update={**told, "champion": self._champion(), "ended": now().isoformat(), "exit_code": exit_code}
        )
        try:
            self._settle(record)
            from pipeline.history.page import write_page

            write_page(self._records, pushed=self._pushed)
        except OSError as error:
            self._cannot(error)

    def _settle(self, record: Record) -> None:
        earlier = [other for other in self._records.read()[0] if other.name < record.name]
        before = earlier[-1] if earlier else None
        if record.outcome in _TOLD_TOGETHER and before and _tells(before) == _tells(record):
            # In this order: a kill between the two leaves a run that is told of twice, not one that is lost.
            self._records.write(before.model_copy(update={"ended": record.ended, "runs": before.runs + 1}))
            self._records.remove(record)
        else:
            self._records.write(record)

    def _keep(self, report: Path) -> str:
        """Copies a report beside the records; one that an earlier run has kept is that one's."""
        earlier = [record.report for record in self._records.read()[0] if record.report]
        folder = self._output / FOLDER
        if earlier and (folder / earlier[-1]).exists() and filecmp.cmp(report, folder / earlier[-1], shallow=False):
            return earlier[-1]
        name = f"{self._record.name}.html"
        self._records.folder.replace(f"{FOLDER}/{name}", report.read_bytes())
        return name

    def _champion(self) -> int | None:
        if self._pushed is None:
            return None
        try:
            text = (self._pushed / _CHAMPION_FILE).read_text(encoding="utf-8").strip()
        except OSError:
            return None
        return int(text) if text.isdecimal() else None

    def _write(self, record: Record) -> None:
        try:
            self._records.write(record)
        except OSError as error:
            self._cannot(error)

    def _cannot(self, error: OSError) -> None:
        self.problem = f"the history in {self._output} could not be written: {error}"


def _tells(record: Record) -> tuple[Any, ...]:
    return record.outcome, record.command, record.words, record.champion, record.delivery


def _read_json(path: str) -> dict[str, Any]:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
