"""Runs that leave in an output folder what the history reads, and its page taken apart."""

import json
from html.parser import HTMLParser
from pathlib import Path

from pipeline.history.journal import Journal
from pipeline.history.records import Records


class Page(HTMLParser):
    """The runs of the page's table as their cells, the last one why; its links, its scripts and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.rows, self.links, self.scripts, self.text = [], [], [], ""
        self._inside, self._in_cell = "", False
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attributes):
        self._inside = tag if tag in ("script", "style") else ""
        if tag == "tbody":
            self.rows.append([])
        elif tag == "td":
            self.rows[-1].append("")
            self._in_cell = True
        elif tag == "script":
            self.scripts.append("")
        elif tag == "a":
            self.links.append(dict(attributes)["href"])

    def handle_endtag(self, tag):
        self._inside, self._in_cell = "", self._in_cell and tag != "td"

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts[-1] += data
        elif not self._inside:
            self.text += data
            if self._in_cell:
                self.rows[-1][-1] = " ".join([*self.rows[-1][-1].split(), *data.split()])

    @property
    def charts(self):
        return json.loads(self.scripts[0])

    @property
    def outcomes(self):
        return [row[1] for row in self.rows if row]


def spans_json(*, proceed=True, new_images=30, words="30 new images, 90 in the window", made=True):
    span = {"span": 4, "read": 40, "kept": 30, "duplicate": 6, "rejected": 4}
    return {
        "decision": {"proceed": proceed, "new_images": new_images, "words": words},
        "made": span if made else None,
        "window": [{**span, "span": 3, "images": 60}, {**span, "images": 30}, {**span, "span": 2, "images": 0}],
    }


def metrics(*, pushed="/out/pushed/2", reason="Pushed as version 2: better.", champion=None, match=True, p_value=0.4):
    estimates = {"value": 0.5, "low": 0.4, "high": 0.6}
    return {
        "started": "2026-03-02T03:00:00+00:00",
        "rows": [
            {"arm": "finetune", "label_fraction": 1.0, "top1": 0.5, "n_test": 100},
            {"arm": "finetune", "label_fraction": 0.1, "top1": 0.3, "n_test": 100},
            {"arm": "supervised", "label_fraction": 1.0, "top1": 0.6, "n_test": 100},
        ],
        "ingest": {"unlabeled": {"read": 8, "kept": 7, "duplicate": 1, "rejected": 0}},
        "spans": {"decision": "", "window": spans_json()["window"][:2]},
        "drift": {"p_value": p_value, "threshold": 0.005, "findings": []},
        "decision": {
            "pushed": pushed,
            "reason": reason,
            "version": "2" if pushed else "",
            "champion": {"version": "1", "top-1": 0.45} if champion is None else champion,
            "match": {"candidate": estimates, "champion": {**estimates, "value": 0.45}} if match else None,
        },
    }


def drift_json(**told):
    """What drift.json says of one unusual image; its picture is `unusual-000.png`."""
    return {
        "champion": 1,
        "false_alarm_rate": 0.01,
        "threshold": 0.005,
        "new": {"images": 30, "compared": 30},
        "window": {"images": 60, "compared": 60},
        "embeddings": {"mmd2": 0.03, "expected": 0.002, "p_value": 0.0005},
        "statistics": [],
        "unusual": [{"key": "<odd>.png", "file": "unusual-000.png", "times": 2.5, "share": 0.0}],
        "not_compared": None,
        "findings": [],
        **told,
    }


class Runs:
    """Runs that leave in an output folder what real ones do, and nothing else."""

    def __init__(self, output: Path) -> None:
        self.output, self.records, self._n_artifacts = output, Records(str(output)), 0

    def begin(self, command="retrain") -> Journal:
        journal = Journal(str(self.output), command)
        journal.pushes_into(self.output / "pushed")
        return journal

    def finds_nothing(self, words="no new images: nothing to do", new_images=0) -> None:
        journal = self.begin()
        journal.looked(words, new_images=new_images)
        journal.end(None, exit_code=0)

    def ingests(self, journal: Journal, **told) -> None:
        summary = self.output / "artifacts" / "SpanIngest" / "summary" / "7"
        summary.mkdir(parents=True, exist_ok=True)
        (summary / "spans.json").write_text(json.dumps(spans_json(**told)))
        journal.ingested([str(summary.parent), str(summary)])

    def report(self, page="a report", **told) -> Path:
        self._n_artifacts += 1
        artifact = self.output / "artifacts" / "Report" / "report" / str(self._n_artifacts)
        artifact.mkdir(parents=True)
        (artifact / "metrics.json").write_text(json.dumps(metrics(**told)))
        (artifact / "report.html").write_text(page)
        return artifact

    def completes(self, page="a report", *, cached=False, exit_code=0, **told) -> None:
        journal = self.begin()
        self.ingests(journal)
        journal.reported(self.report(page, **told), [{"name": "Push", "cached": cached}])
        journal.end(None, exit_code=exit_code)

    @property
    def last(self):
        return self.records.read()[0][-1]

    @property
    def page(self) -> Page:
        return Page(self.output / "history.html")
