"""Twelve weeks of a source that grows, as a user lives through them: deliveries, commands, what they leave."""

import contextlib
import csv
import dataclasses
import io
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from components.span_ingest.store import Span, SpanStore
from pipeline.history.records import Record, Records

ROOT = Path(__file__).resolve().parents[2]
_SAMPLE = ROOT / "data" / "cifar10_sample"
# Which a network of a few hundred weights tells apart.
_LABELED_CLASSES = ("frog", "ship")
_CONFIG = """
data: {image_size_px: 16}
fractions: [1]
pretrain:
  encoder: {stage_blocks: [1], width: 8}
  head: {output_dim: 8}
  augment: {jitter_strength: 0, grayscale_probability: 0}
  batch_size: 32
  epochs: 2
probe: {inverse_regularization: [1.0]}
finetune: {batch_size: 32, steps: 100, optimizer: {learning_rate: 0.005}}
supervised: {batch_size: 8, steps: 2}
warm_start: {enabled: true, epochs: 1, scratch_every: 4}
gate: {min_top1: 0.6, max_regression: 0.15, judged_by: estimate}
retrain: {window_spans: 4, min_new_images: 20, settle_s: 0}
drift: {embeddings: stop, statistics: stop, sample: 200}
"""


@dataclasses.dataclass(frozen=True)
class Week:
    """What a week has come to.

    Attributes:
        code: exit code.
        said: all that the command printed.
        record: of the history.
        span: that was made; None: none was.
        champion: version that the pointer names.
        trained: number of the last span that was trained on.
    """

    code: int
    said: str
    record: Record
    span: Span | None
    champion: int | None
    trained: int


class Weeks:
    """A source in a folder, and the command that is started each week."""

    def __init__(self, folder: Path, *, rehearsed: bool) -> None:
        self.source, self.output, self._rehearsed = folder / "source", folder / "run", rehearsed
        self.store = SpanStore(str(folder / "store"))
        self.source.mkdir(parents=True)
        config = folder / "weekly.yaml"
        config.write_text(_CONFIG)
        labeled = {name: str(folder / name) for name in ("labeled", "test")}
        self._images = _members("train.tar")
        self._write_labeled(Path(labeled["labeled"]), Path(labeled["test"]))
        settings = {
            "data.unlabeled": str(self.source),
            "data.labeled": labeled["labeled"],
            "data.test": labeled["test"],
        }
        settings["retrain.store"] = self.store.folder.path
        self._arguments = ["--config", str(config), "--output", str(self.output)]
        self._arguments += [f"--set={name}={value}" for name, value in settings.items()]

    def deliver(self, name: str, pngs: Sequence[bytes]) -> None:
        """Puts an archive of images into the source, whole at once."""
        written = self.source.parent / name
        with tarfile.open(written, "w") as archive:
            for number, png in enumerate(pngs):
                member = tarfile.TarInfo(f"{number:04}.png")
                member.size = len(png)
                archive.addfile(member, io.BytesIO(png))
        written.rename(self.source / name)

    def images(self, first: int, count: int) -> list[bytes]:
        """Images of the sample that are in neither labelled set, the same ones for the same numbers."""
        return self._images[first : first + count]

    def take_away(self, name: str, span: int) -> None:
        """What a person does with a delivery that was not meant to be: neither source nor store has it any more."""
        (self.source / name).unlink()
        shutil.rmtree(Path(self.store.folder.path, "spans", f"{span:06}"))

    def run(self, *settings: str) -> Week:
        """Starts the command and waits for its end.

        Args:
            *settings: of this week alone.
        """
        before = {span.number for span in self.store.spans()}
        told = {record.name: record.runs for record in Records(str(self.output)).read()[0]}
        command = [sys.executable, "-m", "pipeline", "rehearse" if self._rehearsed else "retrain", *self._arguments]
        command += [f"--set={setting}" for setting in settings]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        records, damaged = Records(str(self.output)).read()
        assert damaged == []
        [record] = [record for record in records if told.get(record.name) != record.runs]
        made = [span for span in self.store.spans() if span.number not in before]
        assert len(made) <= 1
        return Week(
            code=done.returncode,
            said=done.stdout + done.stderr,
            record=record,
            span=made[0] if made else None,
            champion=self._champion(),
            trained=self.store.trained(),
        )

    @contextlib.contextmanager
    def watched(self) -> Iterator[tuple[subprocess.Popen[str], Callable[[str], str]]]:
        """Starts a watch; gives it, and what waits until it has said something, and returns what it said."""
        command = [sys.executable, "-u", "-m", "pipeline", "watch", *self._arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)

        def until(words: str) -> str:
            said = ""
            while words not in said:
                line = process.stdout.readline()
                assert line, f"it ended before it said {words!r}:\n{said}"
                said += line
            return said

        try:
            yield process, until
        finally:
            process.kill()
            process.wait()

    def decisions(self) -> list[Mapping[str, Any]]:
        """The history of the champion's pointer."""
        [path] = self._pushed("HISTORY.jsonl")
        return [json.loads(line) for line in path.read_text().splitlines()]

    def _champion(self) -> int | None:
        found = self._pushed("CHAMPION")
        return int(found[0].read_text()) if found else None

    def _pushed(self, name: str) -> list[Path]:
        pattern = "buckets/*/*/pushed" if self._rehearsed else "pushed"
        return list(self.output.glob(f"{pattern}/{name}"))

    def _write_labeled(self, labeled: Path, test: Path) -> None:
        """Sixty images of each class to learn from, fifty to score on; neither is ever delivered."""
        with (_SAMPLE / "labels.csv").open() as file:
            classes = {row["key"]: row["label"] for row in csv.DictReader(file)}
        for folder, archive, count in ((labeled, "train.tar", 60), (test, "test.tar", 50)):
            for name in _LABELED_CLASSES:
                (folder / name).mkdir(parents=True)
                chosen = [(key, png) for key, png in _named(archive) if classes[key] == name][-count:]
                for key, png in chosen:
                    (folder / name / f"{key}.png").write_bytes(png)
        used = {png for path in labeled.rglob("*.png") for png in [path.read_bytes()]}
        self._images = [png for png in self._images if png not in used]


def inverted(pngs: Sequence[bytes]) -> list[bytes]:
    """The same images with each colour turned into its opposite."""
    made = []
    for png in pngs:
        written = io.BytesIO()
        ImageOps.invert(Image.open(io.BytesIO(png)).convert("RGB")).save(written, "PNG")
        made.append(written.getvalue())
    return made


def corrupt(pngs: Sequence[bytes]) -> list[bytes]:
    """Files that say that they are images and break off in the middle of one."""
    return [png[: len(png) // 2] for png in pngs]


def _named(archive: str) -> list[tuple[str, bytes]]:
    with tarfile.open(_SAMPLE / archive) as opened:
        return [(Path(member.name).stem, opened.extractfile(member).read()) for member in opened if member.isfile()]


def _members(archive: str) -> list[bytes]:
    return [png for _, png in _named(archive)]
