"""Images, archives and runs for the tests of ImageExampleGen."""

import dataclasses
import io
import json
import tarfile
import zipfile
from pathlib import Path

import apache_beam as beam
import numpy as np
from apache_beam.options.pipeline_options import PipelineOptions
from PIL import Image
from tfx.dsl.components.base import base_beam_executor
from tfx.types import standard_artifacts

from components.artifacts import IngestSummary
from components.image_example_gen.examples import Example, read_records
from components.image_example_gen.executor import Executor
from pipeline.runners.beam_processes import beam_pipeline_args


def pixels(seed: int, *, size: tuple[int, int] = (6, 5), channels: int = 3) -> np.ndarray:
    """Returns uint8 noise [height, width, channels] (or [height, width] for one channel) of (width, height)."""
    shape = (size[1], size[0], channels) if channels > 1 else (size[1], size[0])
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encode(image: np.ndarray | Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """Returns the bytes of an image file."""
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, kind, **options)
    return buffer.getvalue()


def png(seed: int) -> bytes:
    """Returns a small PNG, another for each seed."""
    return encode(pixels(seed))


def write_files(root: Path, files: dict[str, bytes]) -> Path:
    """Writes files by their relative path."""
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def tar_bytes(members: dict[str, bytes], *, mode: str = "w") -> bytes:
    """Returns a tar of the members, gzipped with mode 'w:gz'."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def zip_bytes(members: dict[str, bytes]) -> bytes:
    """Returns a zip of the members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@dataclasses.dataclass
class Ingested:
    """What a run left: raw Examples as dicts by split, the summary, the rejects, the bytes of all files."""

    examples: dict[str, list[dict]]
    summary: dict
    rejects: list[dict]
    files: dict[str, bytes]
    artifact: standard_artifacts.Examples

    def keys(self, split: str = "train") -> list[str]:
        """Returns the sorted keys of a split."""
        return sorted(example["key"].decode() for example in self.examples[split])

    def labels(self, split: str = "train") -> dict[str, str]:
        """Returns label by key of a split."""
        return {example["key"].decode(): example["label"].decode() for example in self.examples[split]}

    def reasons(self) -> dict[str, str]:
        """Returns the reason of each reject by the last part of its URI."""
        return {reject["uri"].rpartition("/")[2]: reject["reason"] for reject in self.rejects}


def source(path: Path | str, name: str = "unlabeled", **fields: object) -> dict:
    """Returns one item of the `sources` parameter; labelled unless its name is 'unlabeled'."""
    split = "test" if name == "test" else "train"
    return {"name": name, "path": str(path), "split": split, "labeled": name != "unlabeled", **fields}


def ingest(
    out: Path,
    *sources: dict,
    beam_args: tuple[str, ...] = (),
    exclude: standard_artifacts.Examples | None = None,
    **parameters: object,
) -> Ingested:
    """Runs the executor and reads back everything that it wrote."""
    examples = standard_artifacts.Examples()
    examples.uri = str(out / "examples")
    summary = IngestSummary()
    summary.uri = str(out / "summary")
    context = base_beam_executor.BaseBeamExecutor.Context(
        make_beam_pipeline_fn=lambda: beam.Pipeline(options=PipelineOptions([*beam_pipeline_args(1), *beam_args]))
    )
    properties = {
        "sources": json.dumps(sources),
        "holdout_fraction": 0.0,
        "max_pixels": 10_000,
        "max_rejected_share": 1.0,
        "num_shards": 2,
        **parameters,
    }
    Executor(context).Do(
        {"exclude": [exclude]} if exclude else {}, {"examples": [examples], "summary": [summary]}, properties
    )
    by_split = {
        split: [
            example
            for shard in sorted((out / "examples" / f"Split-{split}").iterdir())
            for example in _read_shard(shard)
        ]
        for split in json.loads(examples.split_names)
    }
    return Ingested(
        examples=by_split,
        summary=json.loads((out / "summary" / "summary.json").read_text()),
        rejects=[json.loads(row) for row in (out / "summary" / "rejects.jsonl").read_text().splitlines()],
        files={str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()},
        artifact=examples,
    )


def _read_shard(path: Path) -> list[dict]:
    with path.open("rb") as file:
        records = list(read_records(file, max_record_bytes=2**30))
    return [
        {
            name: (value.bytes_list.value or value.int64_list.value)[0]
            for name, value in Example.FromString(record).features.feature.items()
        }
        for record in records
    ]
