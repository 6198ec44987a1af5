"""Samples of images out of the store of spans: few of its shards are read, whatever it holds."""

import collections
import dataclasses
import hashlib
import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence

import tensorflow as tf
from tfx.dsl.io import fileio

from components.image_example_gen.examples import BrokenRecordsError, Example, read_records
from components.span_ingest.ledger import Ledger
from components.span_ingest.store import Span, SpanStore
from components.span_ingest.window import Share

_HASH_BITS = 64


@dataclasses.dataclass(frozen=True)
class Sample:
    """What was seen of a set of images.

    Attributes:
      n_images: in the set, each content counted once.
      keys: of those chosen, [n].
      images: of those chosen, encoded, [n].
    """

    n_images: int
    keys: list[str]
    images: list[bytes]


def read(store: SpanStore, ledger: Ledger, shares: Sequence[Share], *, size: int, seed: int) -> Sample:
    """Chooses images of spans by their contents' hashes, in whatever order they lie, and reads these alone.

    An image's place is uniform on [0, 1): its shard, which its content's hash has chosen, counts before a hash of
    its own. The images of the first places are thus a random sample of the whole set, and lie in the first shards of
    each span: in one of each, where that holds enough.

    Args:
      store: of the spans.
      ledger: that tells of all of them.
      shares: what of the spans is the set; each content is once.
      size: images to choose, at most.
      seed: of the choice.

    Raises:
      DamagedError: a shard is not what was written.
    """
    spans = {share.span.number: share.span for share in shares}
    left_out = {share.span.number: share.left_out for share in shares}
    kept = ledger.kept(spans).select(["span", "sha256"])
    candidates = (
        (_place(spans[number], sha256, seed=seed), number, sha256)
        for batch in kept.to_batches()
        for number, sha256 in zip(*(column.to_pylist() for column in batch.columns), strict=True)
        if sha256 not in left_out[number]
    )
    chosen = [(number, sha256) for _, number, sha256 in heapq.nsmallest(size, candidates)]
    found = _fetch(store, spans, chosen)
    return Sample(
        sum(share.images for share in shares),
        [found[sha256][0] for _, sha256 in chosen],
        [found[sha256][1] for _, sha256 in chosen],
    )


def labels(split_uris: Iterable[str]) -> collections.Counter[str]:
    """How often each label occurs in directories of TFRecords of tf.Example with `label`."""
    return collections.Counter(
        Example.FromString(record).features.feature["label"].bytes_list.value[0].decode()
        for uri in split_uris
        for path in sorted(fileio.glob(f"{uri}/*"))
        for record in tf.data.TFRecordDataset(path, "GZIP" if path.endswith(".gz") else "").as_numpy_iterator()
    )


def embed(embedder: Callable[..., dict[str, tf.Tensor]], images: list[bytes], *, batch_size: int = 64) -> tf.Tensor:
    """h of encoded images by the `embed` signature of a served model: [n] → [n, D] float32."""
    batches = (images[start : start + batch_size] for start in range(0, len(images), batch_size))
    return tf.concat([embedder(image_bytes=tf.constant(batch))["embedding"] for batch in batches], axis=0)


def _place(span: Span, sha256: str, *, seed: int) -> float:
    # Another shard is the first for each seed and span.
    first = _hash(f"{seed}:{span.number}")
    shard = (span.shard_of(sha256) + first) % len(span.shards)
    return (shard + _hash(f"{seed}:{sha256}") / 2**_HASH_BITS) / len(span.shards)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[: _HASH_BITS // 8], "big")


def _fetch(
    store: SpanStore, spans: dict[int, Span], chosen: Sequence[tuple[int, str]]
) -> dict[str, tuple[str, bytes]]:
    """Key and bytes of each chosen image, by its hash; no shard is read beyond the last that is wanted of it."""
    wanted: dict[str, set[str]] = collections.defaultdict(set)
    for number, sha256 in chosen:
        span = spans[number]
        wanted[f"{span.folder}/{span.shards[span.shard_of(sha256)].name}"].add(sha256)
    found = {}
    for name, hashes in wanted.items():
        missing = set(hashes)
        for sha256, key, image in _records(store, name):
            if sha256 in missing:
                found[sha256] = (key, image)
                missing.remove(sha256)
            if not missing:
                break
        if missing:
            raise store.damaged(name, f"it lacks {len(missing)} of the images that the ledger says it holds")
    return found


def _records(store: SpanStore, name: str) -> Iterator[tuple[str, str, bytes]]:
    try:
        with store.folder.open(name) as file:
            for record in read_records(file, max_record_bytes=2**62):
                feature = Example.FromString(record).features.feature
                sha256, key, image = (feature[of].bytes_list.value[0] for of in ("sha256", "key", "image_bytes"))
                yield sha256.decode(), key.decode(), image
    except (BrokenRecordsError, FileNotFoundError) as error:
        raise store.damaged(name, str(error)) from error
