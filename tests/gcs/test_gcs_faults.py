"""An object store that refuses, loses answers, breaks off in the middle of one, or does not answer at all."""

import collections
import io

import gcs_proxy
import pytest
from PIL import Image

_BUCKET = "faults"
# Something happens to every so many-th request of each client; TensorFlow's waits longer before each new attempt.
_EVERY, _EVERY_OF_ALL = 7, 12
_TIMEOUT_S = 900
# TensorFlow's client waits for a minute otherwise.
_PATIENCE = dict.fromkeys(
    ("GCS_METADATA_REQUEST_TIMEOUT_SECS", "GCS_READ_REQUEST_TIMEOUT_SECS", "GCS_WRITE_REQUEST_TIMEOUT_SECS"), "2"
)


def _png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 5), (shade, 10, 200)).save(buffer, "PNG")
    return buffer.getvalue()


def _run(object_store, bucket_name, *programs, every):
    """What programs return of whose requests some fail, once each; and how often they failed how, by client."""
    bucket = object_store.client.create_bucket(bucket_name)
    for label in "ab":
        for number in range(12):
            bucket.blob(f"images/{label}/{number}.png").upload_from_string(_png(20 * number + (label == "a")))
    directory = object_store.refused.parent
    (directory / gcs_proxy.FAULTS_FILE).write_text(str(every))
    object_store.environment.update(_PATIENCE)
    try:
        results = object_store.run(f"gs://{bucket_name}", *programs, timeout_s=_TIMEOUT_S)
    finally:
        (directory / gcs_proxy.FAULTS_FILE).unlink()
        for name in _PATIENCE:
            del object_store.environment[name]
    happened = [line.split() for line in (directory / gcs_proxy.FAULTED_FILE).read_text().splitlines()]
    return results, collections.Counter(
        (client, kind) for kind, client, _, path in happened if f"/{bucket_name}/" in path
    )


def _assert_spans_hold_each_image_once(spans):
    assert (spans["first"], spans["created"], spans["winner"]) == (3, 1, True)
    assert sorted(spans["raced"], key=str) in ([None, [2, 2]], [[2, 2], None])
    assert spans["is_empty"] and spans["is_whole"] and spans["without_tested"]


def test_store_of_spans_loses_nothing_and_keeps_nothing_twice(object_store):
    results, happened = _run(object_store, "faulty-spans", "spans", every=_EVERY)
    assert {("Python", kind) for kind in ("429", "503", "lost", "partial")} <= set(happened)
    _assert_spans_hold_each_image_once(results["spans"])


@pytest.mark.chaos
def test_ingestion_checkpoints_pushes_and_spans_end_as_without_faults(object_store):
    programs = ("ingest", "reread", "train", "push", "spans")
    results, happened = _run(object_store, "faults", *programs, every=_EVERY_OF_ALL)
    assert {("Beam", kind) for kind in ("429", "503", "lost")} <= set(happened)
    assert {("TensorFlow", kind) for kind in ("429", "503", "lost", "partial", "stalled")} <= set(happened)
    labels = results["reread"]
    assert labels["ingested"] == labels["by_beam"] == ["a"] * 12 + ["b"] * 12
    assert results["train"] == {"last_step": 12}
    first, second, better = results["push"]["decisions"]
    assert first["version"] == second["version"] == "1" and better["version"] == "3"
    assert results["push"]["after_the_break"] == {"versions": [1], "champion": 1, "found": None}
    _assert_spans_hold_each_image_once(results["spans"])
