"""Batches from TFRecords of canonical examples, in an order that is a pure function of seed, epoch and files.

An example has `image` (PNG) and `key`, and `label_index` where it is labelled. Nothing is held in memory but the
shuffle buffer, and that holds encoded bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from trainer import images

_SHUFFLE_BUFFER = 50_000  # encoded examples
_KEY_HASH_BUCKETS = 2**62
_UNLABELED = -1
_FEATURES = {
    "image": tf.io.FixedLenFeature([], tf.string),
    "key": tf.io.FixedLenFeature([], tf.string),
    "label_index": tf.io.FixedLenFeature([], tf.int64, default_value=_UNLABELED),
}


@dataclass(frozen=True)
class ExampleFiles:
    """A set of examples on disk.

    Attributes:
        paths: TFRecord files, gzipped if they end in `.gz`.
        count: number of examples in them.
        short_side_px: of their images.
        canvas_px: height and width that hold every image.
    """

    paths: tuple[str, ...]
    count: int
    short_side_px: int
    canvas_px: tuple[int, int]


def open_examples(patterns: Sequence[str]) -> ExampleFiles:
    """Finds the files of some patterns, counts their examples and measures their images by the headers.

    Raises:
        ValueError: no file or no example is there.
    """
    paths = tuple(sorted(path for pattern in patterns for path in tf.io.gfile.glob(pattern)))
    if not paths:
        raise ValueError(f"no examples at {list(patterns)}: the step before wrote none there")

    def measure(state: tuple[tf.Tensor, tf.Tensor], record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        count, canvas = state
        return count + 1, tf.maximum(canvas, images.png_size(_parse(record)["image"]))

    count, canvas = _records(paths).reduce((tf.constant(0), tf.zeros([2], tf.int32)), measure)
    if count == 0:
        raise ValueError(f"the files at {list(patterns)} hold no examples")
    first = images.png_size(_parse(next(iter(_records(paths))))["image"])
    return ExampleFiles(paths, int(count), int(tf.reduce_min(first)), tuple(int(side) for side in canvas))


def training_batches(
    files: ExampleFiles, *, batch_size: int, epochs: int, seed: int, first_step: int = 0
) -> tf.data.Dataset:
    """Shuffled batches for a number of epochs; the last, partial batch of an epoch is dropped.

    Args:
        files: the examples.
        batch_size: B, at most the number of examples.
        epochs: how often each example may be seen.
        seed: of the order; every epoch has another.
        first_step: batches to skip, without decoding them, where a training is resumed.

    Returns:
        A dataset of {"image": [B, H, W, 3] uint8, "size": [B, 2] int32, "key": [B] int64, "label": [B] int64,
        "epoch": [B] int64}; smaller images lie in the top left corner of a canvas that is zero elsewhere.

    Raises:
        ValueError: the batch is larger than the set.
    """
    if batch_size > files.count:
        raise ValueError(
            f"a batch of {batch_size} is larger than the set of {files.count} images: set at most {files.count}"
        )

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        buffer = min(files.count, _SHUFFLE_BUFFER)
        batches = _records(files.paths).shuffle(buffer, seed=seed + epoch).batch(batch_size, drop_remainder=True)
        return batches.map(lambda records: (records, tf.fill([batch_size], epoch)))

    def decode(record: tf.Tensor, epoch: tf.Tensor) -> dict[str, tf.Tensor]:
        example = _parse(record)
        image = images.decode_png(example["image"])
        return {
            "image": tf.image.pad_to_bounding_box(image, 0, 0, *files.canvas_px),
            "size": tf.shape(image)[:2],
            "key": tf.strings.to_hash_bucket_fast(example["key"], _KEY_HASH_BUCKETS),
            "label": example["label_index"],
            "epoch": epoch,
        }

    examples = tf.data.Dataset.range(epochs).flat_map(one_epoch).skip(first_step).unbatch()
    examples = examples.map(decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return examples.batch(batch_size, drop_remainder=True).prefetch(2)


def evaluation_batches(files: ExampleFiles, *, size_px: int, batch_size: int = 256) -> tf.data.Dataset:
    """Every example once, in the files' order, as evaluation and serving see it.

    Returns:
        A dataset of {"image": [B, size, size, 3] float32 in [0, 1], "key": [B] string, "label": [B] int64}.
    """

    def decode(record: tf.Tensor) -> dict[str, tf.Tensor]:
        example = _parse(record)
        view = images.evaluation_view(images.decode_png(example["image"]), size_px=size_px)
        return {"image": view, "key": example["key"], "label": example["label_index"]}

    examples = _records(files.paths).map(decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return examples.batch(batch_size).prefetch(2)


def _records(paths: Sequence[str]) -> tf.data.Dataset:
    return tf.data.TFRecordDataset(list(paths), compression_type="GZIP" if paths[0].endswith(".gz") else "")


def _parse(record: tf.Tensor) -> dict[str, tf.Tensor]:
    return tf.io.parse_single_example(record, _FEATURES)
