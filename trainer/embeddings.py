"""What a network makes of images: batch by batch, and as a Parquet file written as they are computed."""

import os
import tempfile
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
import tf_keras

from trainer import data
from trainer.sources import ExampleFiles


def predictions(model: tf_keras.Model, batches: tf.data.Dataset) -> Iterator[dict[str, tf.Tensor]]:
    """Runs a model over evaluation batches: each batch with the model's `output` beside it."""
    # Nothing here branches on a tensor, and converting Keras' own code takes seconds.
    run = tf.function(lambda images: model(images, training=False), reduce_retracing=True, autograph=False)
    for batch in batches:
        yield {**batch, "output": run(batch["image"])}


def write_parquet(encoder: tf_keras.Model, files: ExampleFiles, path: str, *, size_px: int) -> int:
    """Writes one row an image: `key`, `label_index` (null without a label) and `embedding`, h as float32 [D].

    Args:
        encoder: images [B, S, S, 3] in [0, 1] → h [B, D]; runs in inference mode.
        files: the images.
        path: of the Parquet file, which appears when it is whole; its folder is made.
        size_px: S.

    Returns:
        The number of rows.
    """
    schema = pa.schema(
        [
            ("key", pa.string()),
            ("label_index", pa.int64()),
            ("embedding", pa.list_(pa.float32(), encoder.output_shape[-1])),
        ]
    )
    partial, rows = f"{path}.partial", 0
    tf.io.gfile.makedirs(os.path.dirname(path) or ".")  # before the work: what cannot be made is said at once
    with tempfile.TemporaryDirectory() as folder:
        local = os.path.join(folder, "embeddings.parquet")
        with pq.ParquetWriter(local, schema) as writer:
            for batch in predictions(encoder, data.evaluation_batches(files, size_px=size_px)):
                writer.write_batch(_record_batch(batch, schema))
                rows += len(batch["key"])
        tf.io.gfile.copy(local, partial, overwrite=True)
    tf.io.gfile.rename(partial, path, overwrite=True)
    return rows


def _record_batch(batch: dict[str, tf.Tensor], schema: pa.Schema) -> Any:
    h, labels = batch["output"].numpy(), batch["label"].numpy()
    columns = [
        pa.array([key.decode() for key in batch["key"].numpy()]),
        pa.array(labels, mask=labels < 0),
        pa.FixedSizeListArray.from_arrays(pa.array(h.reshape(-1)), h.shape[1]),
    ]
    return pa.record_batch(columns, schema=schema)
