"""Images on gs:// become TFRecords on gs://, which Beam and TensorFlow read."""

import io
import json

import pytest
from google.cloud.storage import Bucket
from PIL import Image

from components.image_example_gen.examples import Example, read_records

_BUCKET = "ingestion"


def _png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 5), (shade, 10, 200)).save(buffer, "PNG")
    return buffer.getvalue()


def _put(bucket: Bucket, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        bucket.blob(name).upload_from_string(content)


@pytest.fixture(scope="module")
def ran(object_store):
    pngs = {f"{label}/{number}.png": _png(40 * number + at) for at, label in enumerate("ab") for number in range(6)}
    odd = {"a/copy.png": pngs["a/0.png"], "b/broken.png": b"", "empty/": b""}
    _put(object_store.client.create_bucket(_BUCKET), {f"images/{name}": data for name, data in (pngs | odd).items()})
    return object_store.run(f"gs://{_BUCKET}", "ingest", "reread")


@pytest.fixture(scope="module")
def stored(ran, object_store):
    """The stored Examples of each split, read without Beam and TensorFlow."""
    by_split = {}
    for split in ran["ingest"]["splits"]:
        names = object_store.names(_BUCKET, f"ingested/examples/Split-{split}/data_tfrecord-")
        assert [name.rpartition("-")[2] for name in names] == ["00002"] * 2
        by_split[split] = [
            Example.FromString(record).features.feature
            for name in names
            for record in read_records(io.BytesIO(object_store.read(_BUCKET, name)), max_record_bytes=2**20)
        ]
    return by_split


def _texts(examples, name):
    return sorted(example[name].bytes_list.value[0].decode() for example in examples)


def test_ingested_examples_are_on_the_store_each_image_once(stored):
    assert sorted(stored) == ["test", "train"] and all(stored.values())
    every = stored["train"] + stored["test"]
    assert _texts(every, "label") == ["a"] * 6 + ["b"] * 6
    assert len(set(_texts(every, "sha256"))) == 12
    assert all(uri.startswith(f"gs://{_BUCKET}/images/") for uri in _texts(every, "source_uri"))


def test_ingestion_leaves_its_account_and_nothing_of_its_work(ran, object_store):
    account = json.loads(object_store.read(_BUCKET, "ingested/summary/summary.json"))["labeled"]
    assert [account[name] for name in ("read", "kept", "duplicate", "rejected")] == [14, 12, 1, 1]
    rejects = object_store.read(_BUCKET, "ingested/summary/rejects.jsonl").splitlines()
    assert [json.loads(row)["uri"] for row in rejects] == [f"gs://{_BUCKET}/images/b/broken.png"]
    names = object_store.names(_BUCKET, "ingested/")
    written = [name.rpartition("/")[2] for name in names if not name.endswith("/")]
    shards = [f"data_tfrecord-0000{shard}-of-00002" for shard in (0, 1)]
    assert sorted(written) == sorted([*shards, *shards, "rejects.jsonl", "summary.json"])


def test_tensorflow_reads_what_ingestion_and_beam_have_written(ran, object_store):
    assert ran["reread"] == {name: ["a"] * 6 + ["b"] * 6 for name in ("ingested", "by_beam")}
    assert object_store.names(_BUCKET, "by_beam/") == ["by_beam/records-00000-of-00001.gz"]


def test_folders_are_seen_whole_whatever_slash_ends_them_and_a_bucket_is_one(object_store):
    files = {"photos/": b"", "photos/top.png": b"1", "photos/a/": b"", "photos/a/1.png": b"2", "empty/": b""}
    _put(object_store.client.create_bucket("looked-at"), files | {"week-1/b.png": b"3", "week-x/c.png": b"4"})
    seen = object_store.run("gs://looked-at", "look")["look"]
    for path in ("photos", "photos/", "photos//"):
        assert seen[path] == ["gs://looked-at/photos", ["a/1.png", "top.png"], []]
    every = ["photos/a/1.png", "photos/top.png", "week-1/b.png", "week-x/c.png"]
    assert seen[""] == seen["/"] == ["gs://looked-at", every, []]
    assert seen["week-{SPAN}/"] == ["gs://looked-at", ["week-1/b.png"], []]
    assert seen["empty/"] == ["gs://looked-at/empty", [], []]
