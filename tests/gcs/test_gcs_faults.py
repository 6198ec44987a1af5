"""An object store that refuses, loses answers, breaks off in the middle of one, or does not answer at all."""

import collections
import io
import json

import gcs_programs
import gcs_proxy
import pytest
from PIL import Image

_BUCKET = "faults"
# Something happens to every so many-th request of each client; TensorFlow's waits longer before each new attempt.
_EVERY, _EVERY_OF_ALL = 7, 12
_TIMEOUT_S = 900
_LABELS, _IMAGES = "ab", 12
_ALL = ("429", "503", "lost", "partial", "stalled")
# Not what ends a run of Beam, half an answer.
_TRIED_AGAIN = {"Beam": ("429", "503", "lost", "stalled"), "Python": _ALL, "TensorFlow": _ALL}
# The clients wait for a minute otherwise.
_PATIENCE = dict.fromkeys(
    (
        "GCS_METADATA_REQUEST_TIMEOUT_SECS",
        "GCS_READ_REQUEST_TIMEOUT_SECS",
        "GCS_WRITE_REQUEST_TIMEOUT_SECS",
        gcs_programs.PATIENCE,
    ),
    "2",
)


def _png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 5), (shade, 10, 200)).save(buffer, "PNG")
    return buffer.getvalue()


def _run(object_store, bucket_name, *programs, every, kinds=_TRIED_AGAIN, where=""):
    """What programs return of whose requests some fail, once each; and how often they failed how, by client."""
    bucket = object_store.client.create_bucket(bucket_name)
    for label in _LABELS:
        for number in range(_IMAGES):
            bucket.blob(f"images/{label}/{number}.png").upload_from_string(_png(20 * number + (label == "a")))
    directory = object_store.refused.parent
    (directory / gcs_proxy.FAULTS_FILE).write_text(json.dumps({"every": every, "kinds": kinds, "where": where}))
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
    assert {("Python", kind) for kind in _ALL} <= set(happened)
    _assert_spans_hold_each_image_once(results["spans"])


@pytest.mark.chaos
def test_ingestion_checkpoints_pushes_and_spans_end_as_without_faults(object_store):
    programs = ("ingest", "reread", "train", "push", "spans")
    results, happened = _run(object_store, "faults", *programs, every=_EVERY_OF_ALL)
    assert {(client, kind) for client, kinds in _TRIED_AGAIN.items() for kind in kinds} <= set(happened)
    labels = results["reread"]
    assert labels["ingested"] == labels["by_beam"] == ["a"] * 12 + ["b"] * 12
    assert results["train"] == {"last_step": 12}
    first, second, better = results["push"]["decisions"]
    assert first["version"] == second["version"] == "1" and better["version"] == "3"
    assert results["push"]["after_the_break"] == {"versions": [1], "champion": 1, "found": None}
    _assert_spans_hold_each_image_once(results["spans"])


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("bucket_name", "where", "failed"),
    [
        # Of what Beam asks in JSON it does not ask again for the rest: the run fails, and says so.
        ("half-listings", "/o?projection=noAcl&prefix=images", ["JSONDecodeError"]),
        ("half-images", "alt=media", []),
    ],
)
def test_half_an_answer_to_beam_fails_the_run_at_most_and_is_no_image_less(object_store, bucket_name, where, failed):
    halves = {"every": 1, "kinds": {"Beam": ("partial",)}, "where": where}
    results, happened = _run(object_store, bucket_name, "ingest_in_runs", **halves)
    assert happened["Beam", "partial"] >= (1 if failed else len(_LABELS) * _IMAGES)
    told = results["ingest_in_runs"]
    assert [name in said for name, said in zip(failed, told["failed"], strict=True)] == [True] * len(failed)
    assert told["labels"] == sorted(_LABELS * _IMAGES)
