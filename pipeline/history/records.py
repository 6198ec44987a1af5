"""One JSON file a run in `history/`: written when the run begins, and once more when it ends.

A file for each, and not one for all: two runs that end at once do not overwrite each other, and a damaged file is one
run that nobody can read, not a history. No TFX, no TensorFlow: a run that finds nothing new ends in seconds.
"""

import datetime
import hashlib
import re
import secrets
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from components.span_ingest.folder import BucketFolder, LocalFolder

FOLDER = "history"
# As the Report calls them, whose own module would bring TFX.
METRICS_FILE, REPORT_FILE = "metrics.json", "report.html"

_STAMP = "%Y%m%dT%H%M%S"
_NAMED = re.compile(rf"^{FOLDER}/(\d{{8}}T\d{{6}})-[0-9a-f]{{6}}\.json$")

Outcome = Literal[
    "promoted",
    "unchanged",
    "kept back",
    "refused",
    "nothing new",
    "waiting",
    "stopped by drift",
    "data refused",
    "failed",
    "interrupted",
    "in part",
    "unfinished",
]


class _Value(BaseModel):
    # What a later version adds is no damage.
    model_config = ConfigDict(frozen=True, extra="ignore")


class Accuracy(_Value):
    """Top-1 on the test images, with its 95% interval where it is known."""

    top1: float
    low: float | None = None
    high: float | None = None


class Delivery(_Value):
    """What was read of the unlabeled images, and what became of them; `span` is null where there are no spans."""

    span: int | None
    read: int
    kept: int
    duplicate: int
    rejected: int


class Found(_Value):
    """One kind of drift, in words, and what it was configured to do."""

    kind: str
    words: str
    policy: str


class Drift(_Value):
    """The comparison of the new images with the window: of the champion's embeddings, and all that was found."""

    p_value: float | None
    threshold: float
    findings: tuple[Found, ...]


class Record(_Value):
    """What became of a run.

    Attributes:
        name: of its files; names sort as the runs began, whatever the clock did.
        command: that started it.
        started: when, UTC.
        ended: when, UTC; null: it still runs, or was killed.
        outcome: in a word or two.
        exit_code: of the program.
        words: why.
        runs: how many runs in a row this tells of: such as find nothing new are told together.
        delivery: of this run.
        new_images: since the last completed run.
        window_images: that were pretrained on.
        window_spans: that they came from.
        champion: number of the version that is it now.
        candidate: the model that was to be pushed.
        champion_met: the champion that it met, on the same images.
        version_met: the number of that one.
        drift: of the new images.
        artifact: folder of the report's artifact, within the output; on gs:// its URI.
        report: file in `history/`.
        drift_page: file in `history/`, where drift stopped the run: figures and the most unusual images.
        recovered: whether this was made from an artifact, since the record of the run was lost.
    """

    name: str
    command: str
    started: str
    ended: str | None = None
    outcome: Outcome = "unfinished"
    exit_code: int | None = None
    words: str = ""
    runs: int = 1
    delivery: Delivery | None = None
    new_images: int | None = None
    window_images: int | None = None
    window_spans: int | None = None
    champion: int | None = None
    candidate: Accuracy | None = None
    champion_met: Accuracy | None = None
    version_met: str | None = None
    drift: Drift | None = None
    artifact: str | None = None
    report: str | None = None
    drift_page: str | None = None
    recovered: bool = False


class Records:
    """Those of one output folder."""

    def __init__(self, output: str, *, is_remote: bool = False) -> None:
        """Of a folder on this machine, or of a pipeline root on gs://."""
        self.folder = BucketFolder(output) if is_remote else LocalFolder(output)

    def read(self) -> tuple[list[Record], list[str]]:
        """All records, the oldest first, and the names of files that are none."""
        found, damaged = [], []
        for file in sorted(self.folder.sizes(FOLDER)):
            if not file.endswith(".json"):
                continue
            try:
                record = Record.model_validate_json(self.folder.read(file) or b"")
            except ValidationError:
                damaged.append(file)
                continue
            if file == _file(record):
                found.append(record)
            else:
                damaged.append(file)
        return found, damaged

    def next_name(self, moment: datetime.datetime) -> str:
        """A name for a run that begins now: it sorts behind all that are there, also if the clock was moved back."""
        stamps = [match[1] for file in self.folder.sizes(FOLDER) if (match := _NAMED.search(file))]
        if stamps and f"{moment:{_STAMP}}" <= max(stamps):
            moment = datetime.datetime.strptime(max(stamps), _STAMP) + datetime.timedelta(seconds=1)
        return new_name(moment)

    def write(self, record: Record) -> None:
        """Writes a record, whole or not at all."""
        self.folder.replace(_file(record), record.model_dump_json(indent=1).encode() + b"\n")

    def remove(self, record: Record) -> None:
        """Removes a record whose run another one tells of."""
        Path(self.folder.path, _file(record)).unlink(missing_ok=True)


def new_name(moment: datetime.datetime) -> str:
    """A name for a record that no other has; names sort by their moments."""
    return f"{moment:{_STAMP}}-{secrets.token_hex(3)}"


def name_of(run: str, moment: datetime.datetime) -> str:
    """The name for the record of a run that has a name of its own: always the same one."""
    return f"{moment:{_STAMP}}-{hashlib.sha256(run.encode()).hexdigest()[:6]}"


def now() -> datetime.datetime:
    """The time, UTC, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)


def _file(record: Record) -> str:
    return f"{FOLDER}/{record.name}.json"
