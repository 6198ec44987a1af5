"""Sets of images on disk, and how their examples are reached: TFRecords here, image files in `folders`.

A set whose pixels take a gibibyte or less is decoded once and held in memory; of a larger one, the batches that are
on their way, and of a stream as many encoded examples as take no more than that, from which the next ones are drawn.
"""

import abc
import contextlib
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from trainer import images, prng

_MEMORY_BYTES = 2**30
_SHUFFLE_BUFFER = 50_000  # encoded examples of a set that is read as a stream, if so many fit into _MEMORY_BYTES
_FILES_AT_ONCE = 16  # of a stream, so that neighbours in a file are far apart in the buffer
UNLABELED = -1
_DIGEST_BUCKETS = 2**62
_FEATURES = {
    "image": tf.io.FixedLenFeature([], tf.string),
    "key": tf.io.FixedLenFeature([], tf.string),
    "label_index": tf.io.FixedLenFeature([], tf.int64, default_value=UNLABELED),
}

# TensorFlow's message quotes the record, and where that is no UTF-8 there is no message.
_FOREIGN = (tf.errors.InvalidArgumentError, UnicodeDecodeError)

Example = dict[str, tf.Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class ExampleFiles(abc.ABC):
    """A set of examples, reached by references: tensors whose meaning is each kind's own.

    Attributes:
        count: number of examples.
        short_side_px: of their images.
        canvas_px: height and width that hold every image.
        classes: names in the order of the labels, where the set knows them.
    """

    count: int
    short_side_px: int
    canvas_px: tuple[int, int]
    classes: tuple[str, ...] = ()

    @property
    @abc.abstractmethod
    def identity(self) -> str:
        """A digest of keys, labels and images, as far as they were read when the set was opened."""

    @abc.abstractmethod
    def in_order(self) -> tf.data.Dataset:
        """References to all examples, in the files' order."""

    @abc.abstractmethod
    def shuffled(self, order_key: tf.Tensor) -> tf.data.Dataset:
        """References to all examples in the order that a key, [2] uint32, decides."""

    @abc.abstractmethod
    def sample(self, count: int, order_key: tf.Tensor) -> tf.data.Dataset:
        """References to some of the examples, from all over the set; no more of them is held than one at a time."""

    @abc.abstractmethod
    def read(self, reference: tf.Tensor) -> Example:
        """One example: `image` [H, W, 3] uint8, `key` string, `label` int64, −1 for none."""

    def read_batches(self, references: tf.data.Dataset, *, batch_size: int) -> tf.data.Dataset:
        """Whole batches of examples on canvases, with their `size`, [B, 2] int32."""

        def read(reference: tf.Tensor) -> Example:
            example = self.read(reference)
            size = tf.shape(example["image"])[:2]
            border = tf.concat([tf.constant(self.canvas_px) - size, [0]], axis=0)
            canvas = tf.pad(example["image"], tf.stack([tf.zeros_like(border), border], axis=1))
            return example | {"image": tf.ensure_shape(canvas, [*self.canvas_px, 3]), "size": size}

        examples = references.map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return examples.batch(batch_size, drop_remainder=True)

    def check(self) -> None:  # noqa: B027 - records were proved when they were made
        """Raises a ValueError that names a file which cannot be read, if there is one."""

    @functools.cached_property
    def held(self) -> "ExampleFiles":
        """The same set in memory, or itself where it is too large for that."""
        if self.count * self.canvas_px[0] * self.canvas_px[1] * 3 > _MEMORY_BYTES:
            return self
        everything = self.read_batches(self.in_order(), batch_size=self.count).get_single_element()
        return _HeldExamples(
            count=self.count,
            short_side_px=self.short_side_px,
            canvas_px=self.canvas_px,
            classes=self.classes,
            origin=self,
            everything=everything,
        )


@contextlib.contextmanager
def naming_unreadable(files: ExampleFiles) -> Iterator[None]:
    """Turns TensorFlow's complaint about an image in a batch, which names none, into an error that does.

    Raises:
        ValueError: an image cannot be decoded; its file is named.
    """
    try:
        yield
    except tf.errors.InvalidArgumentError:
        files.check()
        raise


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordFiles(ExampleFiles):
    """Examples in TFRecords, a stream; a reference is a record.

    Attributes:
        paths: of the files, gzipped if they end in `.gz`.
        digest: of all keys, labels and images, in whatever order and files.
        encoded_bytes: of all records.
    """

    paths: tuple[str, ...]
    digest: int
    encoded_bytes: int

    @property
    def identity(self) -> str:
        return f"{self.digest:016x}"

    def in_order(self) -> tf.data.Dataset:
        return _records(list(self.paths))

    def shuffled(self, order_key: tf.Tensor) -> tf.data.Dataset:
        fitting = _MEMORY_BYTES * self.count // self.encoded_bytes
        buffer_size = max(min(self.count, _SHUFFLE_BUFFER, fitting), 1)
        with _no_global_seed():
            return self._interleaved(order_key).shuffle(buffer_size, seed=tf.bitcast(order_key, tf.int64))

    def sample(self, count: int, order_key: tf.Tensor) -> tf.data.Dataset:
        every_nth = min(self.count, _SHUFFLE_BUFFER) // count
        return self._interleaved(order_key).shard(max(every_nth, 1), 0).take(count)

    def _interleaved(self, order_key: tf.Tensor) -> tf.data.Dataset:
        n_files = len(self.paths)
        paths = tf.gather(tf.constant(self.paths), _permutation(n_files, order_key))
        compression = _compression(self.paths)
        return tf.data.Dataset.from_tensor_slices(paths).interleave(
            lambda path: tf.data.TFRecordDataset(path, compression_type=compression),
            cycle_length=min(n_files, _FILES_AT_ONCE),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )

    def read(self, reference: tf.Tensor) -> Example:
        example = _parse(reference)
        return {
            "image": images.decode_png(example["image"]),
            "key": example["key"],
            "label": example["label_index"],
        }


@contextlib.contextmanager
def _no_global_seed() -> Iterator[None]:
    """While a graph is made: `tf.random.set_seed` would change the order, and with 0 a key could be no tensor."""
    graph = tf.compat.v1.get_default_graph()
    before, graph.seed = graph.seed, None
    try:
        yield
    finally:
        graph.seed = before


class IndexedExamples(ExampleFiles):
    """Examples that can be reached in any order: a reference is an index, and the shuffle a permutation."""

    def in_order(self) -> tf.data.Dataset:
        return tf.data.Dataset.range(self.count)

    def shuffled(self, order_key: tf.Tensor) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices(_permutation(self.count, order_key))

    def sample(self, count: int, order_key: tf.Tensor) -> tf.data.Dataset:
        return self.shuffled(order_key).take(count)


@dataclass(frozen=True, kw_only=True, eq=False)
class _HeldExamples(IndexedExamples):
    origin: ExampleFiles
    everything: Example = field(repr=False)

    @property
    def identity(self) -> str:
        return self.origin.identity

    def read(self, reference: tf.Tensor) -> Example:
        example = {name: tf.gather(values, reference) for name, values in self.everything.items()}
        height, width = tf.unstack(example.pop("size"))
        return example | {"image": example["image"][:height, :width]}

    def read_batches(self, references: tf.data.Dataset, *, batch_size: int) -> tf.data.Dataset:
        def take(indices: tf.Tensor) -> Example:
            return {name: tf.gather(values, indices) for name, values in self.everything.items()}

        # Nothing here is left to tune, and the thread that tunes can miss its end and hold it up by a minute.
        untuned = tf.data.Options()
        untuned.autotune.enabled = False
        return references.batch(batch_size, drop_remainder=True).map(take).with_options(untuned)


def open_examples(patterns: Sequence[str]) -> RecordFiles:
    """Finds the files of some patterns, counts their examples and measures their images by the headers.

    Raises:
        ValueError: no file or no example is there, a file is damaged or cut short, or a record is none of an image.
    """
    paths = sorted(path for pattern in patterns for path in tf.io.gfile.glob(pattern))
    if not paths:
        raise ValueError(f"no examples at {list(patterns)}: the step before wrote none there")

    def measure(state: tuple[tf.Tensor, ...], record: tf.Tensor) -> tuple[tf.Tensor, ...]:
        (count, canvas, digest, encoded_bytes), example = state, _parse(record)
        label = tf.strings.as_string(example["label_index"])
        content = tf.strings.join([label, example["key"], example["image"]], separator=" ")
        # A sum, since Beam may write the same examples in another order the next time.
        digest = (digest + tf.strings.to_hash_bucket_fast(content, _DIGEST_BUCKETS)) % _DIGEST_BUCKETS
        encoded_bytes += tf.cast(tf.strings.length(record), tf.int64)
        return count + 1, tf.maximum(canvas, images.png_size(example["image"])), digest, encoded_bytes

    start = tf.constant(0), tf.zeros([2], tf.int32), tf.constant(0, tf.int64), tf.constant(0, tf.int64)
    try:
        count, canvas, digest, encoded_bytes = _records(paths).reduce(start, measure)
    except tf.errors.DataLossError as error:
        raise ValueError(
            f"{_first_damaged(paths)} is cut short, damaged or no TFRecord file: make it anew, or leave it out"
        ) from error
    except _FOREIGN as error:
        raise ValueError(
            f"{_first_foreign(paths)} holds a record that is no tf.train.Example with an image and a key, or whose "
            "image is no PNG: ingest the images, or make folders of them"
        ) from error
    if count == 0:
        raise ValueError(f"the files at {list(patterns)} hold no examples")
    first = images.png_size(_parse(next(iter(_records(paths))))["image"])
    return RecordFiles(
        paths=tuple(paths),
        digest=int(digest),
        encoded_bytes=int(encoded_bytes),
        count=int(count),
        short_side_px=int(tf.reduce_min(first)),
        canvas_px=tuple(int(side) for side in canvas),
    )


def fingerprint(files: ExampleFiles) -> dict[str, Any]:
    """Tells sets of examples apart, wherever they lie: JSON values, made of what was read when the set was opened.

    Of an image file of more than 64 KiB only the name and the beginning count.
    """
    return {
        "count": files.count,
        "short_side_px": files.short_side_px,
        "classes": list(files.classes),
        "examples": files.identity,
    }


def _first_damaged(paths: list[str]) -> str:
    for path in paths:
        try:
            for _ in _records([path]):
                pass
        except tf.errors.DataLossError:
            return path
    return f"one of {paths[0]} and {len(paths) - 1} more"


def _first_foreign(paths: list[str]) -> str:
    for path in paths:
        for record in _records([path]):
            try:
                images.png_size(_parse(record)["image"])
            except _FOREIGN:
                return path
    return f"one of {paths[0]} and {len(paths) - 1} more"


def _permutation(count: int, key: tf.Tensor) -> tf.Tensor:
    """A uniformly random order of 0 … count−1, [count] int64."""
    indices = tf.range(count, dtype=tf.int64)
    bits = prng.threefry2x32(key, prng.split_int64(indices))
    return tf.argsort(tf.bitcast(bits, tf.int64), stable=True, name="order")


def _records(paths: list[str]) -> tf.data.Dataset:
    return tf.data.TFRecordDataset(paths, compression_type=_compression(paths))


def _compression(paths: Sequence[str]) -> str:
    return "GZIP" if paths[0].endswith(".gz") else ""


def _parse(record: tf.Tensor) -> Example:
    return tf.io.parse_single_example(record, _FEATURES)
