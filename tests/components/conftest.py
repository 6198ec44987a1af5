"""One run of Transform over real and odd images, shared by the tests of what it writes and of what is served."""

import csv
import functools
import io
import json
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "data" / "cifar10_sample"
N_SAMPLES = 36
ODD_SIZES = [(40, 40), (33, 90), (90, 33), (17, 25), (200, 300), (32, 31)]  # width, height


@dataclass(frozen=True)
class RawImage:
    """An image as it was ingested."""

    key: str
    image_bytes: bytes
    width: int
    height: int
    label: str


@dataclass(frozen=True)
class TransformedSample:
    """Raw images, the graph that Transform traced over them, and the examples it wrote."""

    raw: list[RawImage]
    graph: str
    examples: str


def _sample_images():
    with open(SAMPLE / "labels.csv", newline="") as file:
        labels = {row["key"]: row["label"] for row in csv.DictReader(file)}
    with tarfile.open(SAMPLE / "test.tar") as archive:
        for name in sorted(archive.getnames())[:N_SAMPLES]:
            image_bytes = archive.extractfile(name).read()
            yield RawImage(name, image_bytes, 32, 32, labels[Path(name).stem])


def _odd_images():
    for index, (width, height) in enumerate(ODD_SIZES):
        pixels = np.random.default_rng(index).integers(0, 256, [height // 8 + 1, width // 8 + 1, 3], dtype=np.uint8)
        image = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=90)
        yield RawImage(f"odd-{width}x{height}.jpg", buffer.getvalue(), width, height, "cat")


@pytest.fixture(scope="session")
def raw_images():
    return [*_sample_images(), *_odd_images()]


@pytest.fixture(scope="session")
def transform(tmp_path_factory):
    """Runs the preprocessing_fn over raw images as the stock Transform does; its pipeline is made in memory."""

    def run(raw, *, labeled=True, **custom_config):
        import apache_beam as beam
        import tensorflow as tf
        import tensorflow_transform as tft
        from apache_beam.runners.portability.fn_api_runner import FnApiRunner
        from tensorflow_transform import beam as tft_beam

        from components.transform.preprocessing import preprocessing_fn

        directory = tmp_path_factory.mktemp("transform")
        rows = [{**vars(image), "key": image.key.encode(), "label": image.label.encode()} for image in raw]
        types = {"image_bytes": tf.string, "key": tf.string, "width": tf.int64, "height": tf.int64}
        if labeled:
            types["label"] = tf.string
        rows = [{name: row[name] for name in types} for row in rows]
        # A column of one, as the schema of an ingestion without gaps says.
        features = {name: tf.io.FixedLenFeature([1], dtype) for name, dtype in types.items()}
        metadata = tft.DatasetMetadata.from_feature_spec(features)
        # As TFX's executor does: with it, an analyzer that depends on another fails.
        context = tft_beam.Context(temp_dir=str(directory / "tmp"), use_deep_copy_optimization=True)
        with beam.Pipeline(runner=FnApiRunner()) as pipeline, context:
            columns = [{name: [value] for name, value in row.items()} for row in rows]
            data = pipeline | beam.Create(columns, reshuffle=False)
            graph = (data, metadata) | tft_beam.AnalyzeDataset(
                # A partial, since Beam would pickle a lambda with this module and all that pytest put into it.
                functools.partial(preprocessing_fn, custom_config=custom_config)
            )
            transformed, of_transformed = ((data, metadata), graph) | tft_beam.TransformDataset()
            coder = tft.coders.ExampleProtoCoder(of_transformed.schema)
            _ = (
                transformed
                | beam.Map(coder.encode)
                | beam.io.WriteToTFRecord(str(directory / "examples"), file_name_suffix=".gz")
            )
            _ = graph | tft_beam.WriteTransformFn(str(directory / "graph"))
        return TransformedSample(raw, str(directory / "graph"), str(directory / "examples*"))

    return run


@pytest.fixture(scope="session")
def transformed(transform, raw_images):
    return transform(raw_images, short_side_px=0, max_short_side_px=64)


@pytest.fixture(scope="session")
def run_bare():
    """Runs a program where nothing but TensorFlow and NumPy can be imported, as on a stock model server."""
    import subprocess

    def run(program, argument, *, cwd):
        preamble = f"""
import sys
sys.path = [entry for entry in sys.path if entry and entry != {str(ROOT)!r}]
BLOCKED = {{"trainer", "components", "pipeline", "tensorflow_transform", "tfx", "tfx_bsl", "tf_keras", "pydantic",
            "sklearn", "safetensors", "apache_beam", "PIL", "tensorflow_metadata", "kfp"}}
finders = list(sys.meta_path)
class NothingOfOurs:
    # TensorFlow itself looks whether tf_keras is there: what is hidden is not found, as if never installed.
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            return None
        specs = (finder.find_spec(name, path, target) for finder in finders)
        return next((spec for spec in specs if spec is not None), None)
sys.meta_path[:] = [NothingOfOurs()]
import json
argument = json.loads(sys.stdin.read())
"""
        done = subprocess.run(
            [sys.executable, "-c", preamble + program],
            input=json.dumps(argument),
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    return run
