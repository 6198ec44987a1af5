"""What runs in a process whose gs:// is the emulator: argv is a gs:// folder and the names of functions to call."""

import json
import sys
from typing import Any


def ingest(root: str) -> dict[str, Any]:
    """ImageExampleGen's executor from `root`/images to `root`/ingested."""
    import apache_beam as beam
    from tfx.dsl.components.base import base_beam_executor
    from tfx.types import standard_artifacts

    from components.artifacts import IngestSummary
    from components.image_example_gen.executor import Executor

    examples, summary = standard_artifacts.Examples(), IngestSummary()
    examples.uri, summary.uri = f"{root}/ingested/examples", f"{root}/ingested/summary"
    context = base_beam_executor.BaseBeamExecutor.Context(make_beam_pipeline_fn=beam.Pipeline)
    properties = {
        "sources": json.dumps([{"name": "labeled", "path": f"{root}/images", "split": "train", "labeled": True}]),
        "holdout_fraction": 0.5,
        "max_pixels": 10_000,
        "max_rejected_share": 1.0,
        "num_shards": 2,
    }
    Executor(context).Do({}, {"examples": [examples], "summary": [summary]}, properties)
    return {"splits": json.loads(examples.split_names)}


def reread(root: str) -> dict[str, list[str]]:
    """Labels of the ingested images as TensorFlow reads them, and after Beam has read and written them."""
    import apache_beam as beam
    import tensorflow as tf

    def labels(pattern: str, compression: str = "") -> list[str]:
        records = tf.data.TFRecordDataset(tf.io.gfile.glob(pattern), compression)
        feature = {"label": tf.io.FixedLenFeature([], tf.string)}
        return sorted(tf.io.parse_single_example(record, feature)["label"].numpy().decode() for record in records)

    ingested = f"{root}/ingested/examples/*/data_tfrecord-*"
    with beam.Pipeline() as pipeline:
        _ = (
            pipeline
            | beam.io.ReadFromTFRecord(ingested)
            | beam.io.WriteToTFRecord(f"{root}/by_beam/records", file_name_suffix=".gz", num_shards=1)
        )
    return {"ingested": labels(ingested), "by_beam": labels(f"{root}/by_beam/*.gz", "GZIP")}


if __name__ == "__main__":
    sys.stdout.write(json.dumps({name: globals()[name](sys.argv[1]) for name in sys.argv[2:]}) + "\n")
