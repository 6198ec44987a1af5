"""Samples of images out of TFRecords, in one pass over files of any number."""

import collections
import dataclasses
import hashlib
import heapq
from collections.abc import Callable, Collection, Iterable, Iterator

import tensorflow as tf
from tfx.dsl.io import fileio

from components.image_example_gen.examples import Example


@dataclasses.dataclass(frozen=True)
class Sample:
    """What was seen of a set of images.

    Attributes:
      n_images: in the set, each content counted once.
      keys: of those chosen, [n].
      images: of those chosen, encoded, [n].
      labels: how often each label occurs in the set; empty where there are none.
      contents: digests of all images of the set.
    """

    n_images: int
    keys: list[str]
    images: list[bytes]
    labels: collections.Counter
    contents: frozenset[bytes]


def read(split_uris: Iterable[str], *, size: int, seed: int, excluding: Collection[bytes] = ()) -> Sample:
    """Reads a set and chooses the images whose hash of seed and key is smallest: in whatever order they are read.

    Args:
      split_uris: directories of TFRecords of tf.Example with `key`, `image_bytes` and perhaps `label`.
      size: images to choose, at most.
      seed: of the choice.
      excluding: digests of contents that do not belong to the set.
    """
    chosen: list[tuple[int, str, bytes]] = []
    labels: collections.Counter = collections.Counter()
    contents, n_images = set(), 0
    for key, image, label in _images(split_uris):
        content = hashlib.sha256(image).digest()
        # A window may hold an image more than once, to weigh it; twice in the sample it would look like a cluster.
        if content in excluding or content in contents:
            continue
        n_images += 1
        contents.add(content)
        labels.update([] if label is None else [label])
        # A heap of negated ranks has the worst of the chosen in front.
        entry = (-_rank(key, seed), key, image)
        if len(chosen) < size:
            heapq.heappush(chosen, entry)
        elif chosen and entry > chosen[0]:
            heapq.heapreplace(chosen, entry)
    ordered = sorted(chosen, reverse=True)
    return Sample(
        n_images, [key for _, key, _ in ordered], [image for *_, image in ordered], labels, frozenset(contents)
    )


def embed(embedder: Callable[..., dict[str, tf.Tensor]], images: list[bytes], *, batch_size: int = 64) -> tf.Tensor:
    """h of encoded images by the `embed` signature of a served model: [n] → [n, D] float32."""
    batches = (images[start : start + batch_size] for start in range(0, len(images), batch_size))
    return tf.concat([embedder(image_bytes=tf.constant(batch))["embedding"] for batch in batches], axis=0)


def _rank(key: str, seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode()).digest()[:8], "big")


def _images(split_uris: Iterable[str]) -> Iterator[tuple[str, bytes, str | None]]:
    for uri in split_uris:
        for path in sorted(fileio.glob(f"{uri}/*")):
            for record in tf.data.TFRecordDataset(path, "GZIP" if path.endswith(".gz") else "").as_numpy_iterator():
                features = Example.FromString(record).features.feature
                label = features["label"].bytes_list.value[0].decode() if "label" in features else None
                yield features["key"].bytes_list.value[0].decode(), features["image_bytes"].bytes_list.value[0], label
