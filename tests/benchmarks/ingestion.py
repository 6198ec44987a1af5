"""Ingestion of small PNGs against a bare loop of PIL in two processes.

    python tests/benchmarks/ingestion.py --images 50000

Ingestion runs as `make local-run` runs it, with two worker processes of Beam and with none. All alternate over the
same files, so that a busy machine slows each. Printed: seconds and images per second (median and spread), and the
ratios of the rates of each round. "Started" is without the seconds that Beam takes for the same pipeline over a
single image, which is the start of its workers.
"""

import argparse
import concurrent.futures
import importlib
import io
import json
import logging
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import apache_beam as beam
import numpy as np
from apache_beam.options.pipeline_options import PipelineOptions
from PIL import Image

BARE, TWO, START, ONE = (
    "bare PIL, 2 processes",
    "ingestion, 2 workers",
    "of it, starting Beam",
    "ingestion, in-process",
)


def main() -> None:
    """Makes the images, runs the rounds, prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    # TFX is imported before the clock runs: a pipeline imports it once, whatever it ingests.
    importlib.import_module("components.image_example_gen.executor")
    importlib.import_module("pipeline.runners.beam_processes")
    with tempfile.TemporaryDirectory() as folder:
        many, one = Path(folder, "many"), Path(folder, "one")
        make_pngs(many, arguments.images)
        make_pngs(one, 1)
        paths = sorted(str(path) for path in many.rglob("*.png"))
        rounds = []
        for number in range(arguments.rounds):
            outs = [Path(folder, f"{name}{number}") for name in ("two", "start", "one")]
            rounds.append(
                {
                    BARE: timed(bare_loop, paths),
                    TWO: timed(ingest, many, outs[0], 2, arguments.images),
                    START: timed(ingest, one, outs[1], 2, 1),
                    ONE: timed(ingest, many, outs[2], 1, arguments.images),
                }
            )
            # The page cache should hold the images, not what became of them.
            for out in outs:
                shutil.rmtree(out)
    report(rounds, arguments.images)


def make_pngs(folder: Path, count: int) -> None:
    """Writes RGB PNGs of 32 x 32 pixels and about 2 KB, all different, 1,000 a folder."""
    for number in range(count):
        path = folder / f"{number // 1000:03d}" / f"{number:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number))


def png(number: int) -> bytes:
    """The PNG of a number, another for another one."""
    # Half the columns repeat, so that it compresses about as far as a photograph.
    pixels = np.repeat(np.random.default_rng(number).integers(0, 256, (32, 16, 3), dtype=np.uint8), 2, axis=1)
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "PNG")
    return written.getvalue()


def timed(function: Callable[..., None], *arguments: object) -> float:
    """Returns the seconds that a call takes."""
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def bare_loop(paths: list[str]) -> None:
    """Opens and decodes every file, half of them in each of two new processes."""
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        assert sum(pool.map(_decode_all, (paths[::2], paths[1::2]))) == len(paths)


def _decode_all(paths: list[str]) -> int:
    for path in paths:
        with Image.open(path) as image:
            image.load()
    return len(paths)


def ingest(images: Path, out: Path, workers: int, expected: int) -> None:
    """Runs ImageExampleGen's executor, from its parameters to its written artifacts."""
    from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
    from tfx.types import standard_artifacts

    from components.artifacts import IngestSummary
    from components.image_example_gen.executor import Executor
    from pipeline.runners.beam_processes import beam_pipeline_args

    examples, summary = standard_artifacts.Examples(), IngestSummary()
    examples.uri, summary.uri = str(out / "examples"), str(out / "summary")
    context = BaseBeamExecutor.Context(
        make_beam_pipeline_fn=lambda: beam.Pipeline(options=PipelineOptions(beam_pipeline_args(workers)))
    )
    properties = {
        "sources": json.dumps([{"name": "images", "path": str(images), "split": "train", "labeled": False}]),
        "holdout_fraction": 0.0,
        "max_pixels": 64_000_000,
        "max_rejected_share": 0.0,
        "num_shards": 8,
    }
    Executor(context).Do({}, {"examples": [examples], "summary": [summary]}, properties)
    assert json.loads((out / "summary" / "summary.json").read_text())["images"]["kept"] == expected


def report(rounds: list[dict[str, float]], images: int) -> None:
    """Prints medians, spreads and ratios."""
    for name in rounds[0]:
        seconds = [times[name] for times in rounds]
        rate = images / statistics.median(seconds)
        count = f"{rate:8.0f} images/s" if name != START else ""
        print(f"{name:26} {statistics.median(seconds):6.2f} s ({min(seconds):.2f}–{max(seconds):.2f}) {count}")  # noqa: T201
    ratios = {
        "2 workers : bare, whole": [r[BARE] / r[TWO] for r in rounds],
        "2 workers : bare, started": [r[BARE] / (r[TWO] - r[START]) for r in rounds],
        "in-process : bare": [r[BARE] / r[ONE] for r in rounds],
    }
    for name, values in ratios.items():
        print(f"{name:26} {statistics.median(values):6.2f}   ({min(values):.2f}–{max(values):.2f})")  # noqa: T201


if __name__ == "__main__":
    main()
