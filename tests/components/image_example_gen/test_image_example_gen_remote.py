"""Sources that are no local paths: read through Beam's file systems alone, here from an object store in memory."""

import ingest_fixtures as fixtures
import pytest
from ingest_fixtures import ingest, png, source, tar_bytes, zip_bytes
from memory_file_system import OBJECTS

from components.image_example_gen import sources
from components.image_example_gen.ingest import write_text

BUCKET = "mem://bucket/data"


@pytest.fixture(autouse=True)
def _empty_store():
    OBJECTS.clear()
    yield
    OBJECTS.clear()


@pytest.fixture
def store():
    def store(files):
        OBJECTS.update({f"{BUCKET}/{name}": data for name, data in files.items()})
        return BUCKET

    return store


def test_a_remote_folder_is_read_whole_with_its_archives(store, tmp_path):
    files = {
        "flat.png": png(1),
        "deep/er/nested.jpg": fixtures.encode(fixtures.pixels(2), "JPEG"),
        "shards/0.tar": tar_bytes({"t1.png": png(3)}),
        "shards/1.tar.gz": tar_bytes({"t2.png": png(4)}, mode="w:gz"),
        "more.zip": zip_bytes({"z1.png": png(5), "../out.png": png(6)}),
        "copy.png": png(1),
        "broken.png": b"",
        "empty_folder/": b"",
        ".hidden/x.png": png(9),
    }
    run = ingest(tmp_path, source(store(files)))
    assert run.keys() == ["copy", "deep/er/nested", "t1", "t2", "z1"]
    assert run.reasons() == {"broken.png": "empty", "out.png": "unsafe_path"}
    account = run.summary["unlabeled"]
    assert [account[name] for name in ("read", "kept", "duplicate", "rejected")] == [8, 5, 1, 2]
    assert {example["source_uri"] for example in run.examples["train"]} >= {
        f"{BUCKET}/copy.png".encode(),
        f"{BUCKET}/shards/0.tar!t1.png".encode(),
    }


@pytest.mark.parametrize("path", [f"{BUCKET}/*.png", f"{BUCKET}/1.png", f"{BUCKET}/", f"{BUCKET}/pack.tar"])
def test_a_remote_glob_object_or_archive_is_read(store, tmp_path, path):
    store({"1.png": png(1), "pack.tar": tar_bytes({"2.png": png(2)})})
    expected = {"/": ["1", "2"], "r": ["2"], "g": ["1"]}[path[-1]]
    assert ingest(tmp_path, source(path)).keys() == expected


@pytest.mark.parametrize("name", ["unlabeled", "labeled"])
def test_a_remote_folder_with_a_slash_at_its_end_is_read_whole_and_its_marker_is_no_reject(store, tmp_path, name):
    store({"": b"", "cat/": b"", "cat/1.png": png(1), "dog/deep/2.png": png(2), "top.cls": b"cow", "top.png": png(3)})
    run = ingest(tmp_path, source(f"{BUCKET}/", name))
    assert run.keys() == ["cat/1", "dog/deep/2", "top"] and run.rejects == []
    assert run.summary[name]["read"] == 3


def test_remote_class_folders_and_class_files_give_labels(store, tmp_path):
    store({"cat/1.png": png(1), "2.png": png(2), "2.cls": b"dog\n"})
    assert ingest(tmp_path, source(BUCKET, "labeled")).labels() == {"cat/1": "cat", "2": "dog"}


@pytest.mark.parametrize("place", ["in the folder", "beside the archive", "named", "as the path"])
def test_a_remote_manifest_is_found(store, tmp_path, place):
    rows = b"path,label\n1,cat\n2,dog\n"
    pngs = {"1.png": png(1), "2.png": png(2)}
    if place == "beside the archive":
        store({"train.tar": tar_bytes(pngs), "train.csv": rows})
        given = source(f"{BUCKET}/train.tar", "labeled")
    elif place == "named":
        store({f"images/{name}": data for name, data in pngs.items()} | {"rows.csv": rows})
        given = source(f"{BUCKET}/images", "labeled", manifest=f"{BUCKET}/rows.csv")
    else:
        store(pngs | {"labels.csv": rows})
        given = source(BUCKET if place == "in the folder" else f"{BUCKET}/labels.csv", "labeled")
    assert ingest(tmp_path, given).labels() == {"1": "cat", "2": "dog"}


def test_a_remote_path_that_does_not_exist_is_named():
    with pytest.raises(ValueError, match=r"mem://bucket/data/nowhere does not exist or matches no file"):
        sources.plan(sources.Source("unlabeled", f"{BUCKET}/nowhere", "train", labeled=False))


def test_a_remote_output_appears_whole_under_its_name():
    write_text("mem://bucket/summary/rejects.jsonl", "one\n")
    assert OBJECTS == {"mem://bucket/summary/rejects.jsonl": b"one\n"}
