"""Batches from sets of images, in an order that is a pure function of seed, epoch and files."""

from collections.abc import Callable

import tensorflow as tf

from trainer import images, prng
from trainer.folders import open_folder
from trainer.sources import Example, ExampleFiles, naming_unreadable, open_examples

__all__ = [
    "ExampleFiles",
    "evaluation_batches",
    "naming_unreadable",
    "open_examples",
    "open_folder",
    "remaining_batches",
    "sample_batches",
    "training_batches",
]

_ORDER_STREAM = 2**32 - 1  # of the random numbers; the streams of the views count from 0
_KEY_HASH_BUCKETS = 2**62


def training_batches(
    files: ExampleFiles,
    *,
    batch_size: int,
    epochs: int,
    seed: int,
    first_step: int = 0,
    context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Shuffled batches for a number of epochs; the last, partial batch of an epoch is dropped.

    Args:
        files: the examples.
        batch_size: B over all replicas, at most the number of examples.
        epochs: how often each example may be seen.
        seed: of the order; every epoch has another.
        first_step: batches to pass over, without decoding them, where a training is resumed.
        context: of one of several input pipelines, as tf.distribute gives it. The batches are then the shares of
            this pipeline's replicas, in turn, and only these are decoded; all shares of a step, in the order of
            the replicas, are the batch of one device. None: the whole batches.

    Returns:
        A dataset of {"image": [B, H, W, 3] uint8, "size": [B, 2] int32, "key": [B] int64, "label": [B] int64,
        "epoch": [B] int64}; smaller images lie in the top left corner of a canvas that is zero elsewhere.

    Raises:
        ValueError: the batch is larger than the set, or the replicas cannot share it equally.
    """
    if batch_size > files.count:
        raise ValueError(
            f"a batch of {batch_size} is larger than the set of {files.count} images: set at most {files.count}"
        )
    context = context or tf.distribute.InputContext()
    if batch_size % context.num_replicas_in_sync:
        raise ValueError(
            f"a batch of {batch_size} cannot be shared equally by {context.num_replicas_in_sync} replicas: "
            "set a multiple of them"
        )
    rows = batch_size // context.num_input_pipelines
    first_row = rows * context.input_pipeline_id
    replica_rows = batch_size // context.num_replicas_in_sync
    steps_per_epoch = files.count // batch_size
    source = files.held

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        references = source.shuffled(_order_key(seed, epoch)).batch(batch_size, drop_remainder=True)
        return references.map(lambda batch: batch[first_row : first_row + rows])

    def finish(number: tf.Tensor, batch: Example) -> Example:
        return _in_epoch(batch, (first_step + number // (rows // replica_rows)) // steps_per_epoch)

    first_epoch, passed_over = divmod(first_step, steps_per_epoch)
    references = tf.data.Dataset.range(first_epoch, epochs).flat_map(one_epoch).skip(passed_over).unbatch()
    return source.read_batches(references, batch_size=replica_rows).enumerate().map(finish).prefetch(2)


def remaining_batches(
    files: ExampleFiles, *, batch_size: int, total_steps: int, seed: int
) -> Callable[[int, tf.distribute.InputContext], tf.data.Dataset]:
    """`training_batches` of as many epochs as the steps need, as `loop.train` asks for them when it goes on."""
    # A batch larger than the set is refused, in words, where the batches are made.
    epochs = -(-total_steps // max(files.count // batch_size, 1))

    def batches(first_step: int, context: tf.distribute.InputContext) -> tf.data.Dataset:
        return training_batches(
            files, batch_size=batch_size, epochs=epochs, seed=seed, first_step=first_step, context=context
        )

    return batches


def sample_batches(files: ExampleFiles, *, batch_size: int, n_batches: int, seed: int) -> tf.data.Dataset:
    """Batches of a part of the set, to be looked at beside a training, whose shuffle buffer they do not fill again.

    Args:
        files: the examples.
        batch_size: B.
        n_batches: how many; B times as many examples must be there.
        seed: of the order, as in training.

    Returns:
        A dataset as of `training_batches`, of the first epoch.
    """
    epoch, source = tf.constant(0, tf.int64), files.held
    references = source.sample(n_batches * batch_size, _order_key(seed, epoch))
    return source.read_batches(references, batch_size=batch_size).map(lambda batch: _in_epoch(batch, epoch))


def evaluation_batches(files: ExampleFiles, *, size_px: int, batch_size: int = 256) -> tf.data.Dataset:
    """Every example once, in the files' order, as evaluation and serving see it.

    Returns:
        A dataset of {"image": [B, size, size, 3] float32 in [0, 1], "key": [B] string, "label": [B] int64}.
    """

    def read(reference: tf.Tensor) -> Example:
        example = files.read(reference)
        return example | {"image": images.evaluation_view(example["image"], size_px=size_px)}

    examples = files.in_order().map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return examples.batch(batch_size).prefetch(2)


def _in_epoch(batch: Example, epoch: tf.Tensor) -> Example:
    key = tf.strings.to_hash_bucket_fast(batch["key"], _KEY_HASH_BUCKETS)
    return batch | {"key": key, "epoch": tf.fill(batch["label"].shape, epoch)}


def _order_key(seed: int, epoch: tf.Tensor) -> tf.Tensor:
    """[2] uint32 that no other seed and epoch share."""
    run_key = tf.constant([seed & 0xFFFFFFFF, _ORDER_STREAM], tf.uint32)
    return prng.threefry2x32(run_key, prng.split_int64(epoch))
