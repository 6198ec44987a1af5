import os

import pytest
from memory_file_system import OBJECTS, MemoryFileSystem

from components.image_example_gen import sources
from pipeline import preflight
from pipeline.config import load_config
from trainer.config import ConfigError


def look(folder, *overrides):
    return preflight.inspect(load_config(None, [f"data.labeled={folder}", *overrides]))


def test_batch_larger_than_the_folder_is_refused_with_field_value_and_limit(class_folders):
    with pytest.raises(ConfigError, match=r"pretrain\.batch_size = 49: must be at most .* 48"):
        look(class_folders, "pretrain.batch_size=49")


def test_batch_as_large_as_the_folder_passes(class_folders):
    assert look(class_folders, "pretrain.batch_size=48")["unlabeled"].at_most == 48


def test_batch_larger_than_an_archive_is_refused():
    with pytest.raises(ConfigError, match=r"pretrain\.batch_size = 5000"):
        preflight.inspect(load_config(None, ["pretrain.batch_size=5000"]))


def test_folder_that_is_not_there_is_refused_by_field_and_path(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.labeled: .*nowhere"):
        look(tmp_path / "nowhere", "data.unlabeled=data/cifar10_sample/train.tar")


@pytest.mark.parametrize("name", ["labeled", "test"])
def test_manifest_that_is_not_there_is_refused_by_field_and_path(class_folders, tmp_path, name):
    with pytest.raises(ConfigError, match=rf"data\.{name}_manifest: .*nowhere\.csv does not exist"):
        look(class_folders, f"data.test={class_folders}", f"data.{name}_manifest={tmp_path / 'nowhere.csv'}")


def test_fingerprint_is_the_same_for_the_same_files(class_folders):
    assert look(class_folders) == look(class_folders)


@pytest.mark.parametrize("change", ["add", "remove", "touch", "rewrite", "manifest"])
def test_fingerprint_changes_with_the_files(sample_pngs, tmp_path, change):
    for number, png in enumerate(sample_pngs["cat"][:4]):
        (tmp_path / f"{number}.png").write_bytes(png)
    (tmp_path / "labels.csv").write_text("key,label\n0,cat\n1,cat\n2,dog\n3,dog\n")
    before = look(tmp_path)["labeled"].fingerprint
    if change == "add":
        (tmp_path / "4.png").write_bytes(sample_pngs["cat"][4])
    elif change == "remove":
        (tmp_path / "3.png").unlink()
    elif change == "touch":
        os.utime(tmp_path / "3.png", ns=(1, 1))
    elif change == "rewrite":
        (tmp_path / "3.png").write_bytes(sample_pngs["cat"][5])
    else:
        (tmp_path / "labels.csv").write_text("key,label\n0,cat\n1,dog\n2,dog\n3,cow\n")
    assert look(tmp_path)["labeled"].fingerprint != before


@pytest.fixture
def bucket(monkeypatch, sample_pngs):
    """A folder on a store, of 40 images in two classes."""
    for name, pngs in list(sample_pngs.items())[:2]:
        for number, png in enumerate(pngs[:20]):
            monkeypatch.setitem(OBJECTS, f"mem://bucket/images/{name}/{number}.png", png)
    return "mem://bucket/images"


@pytest.mark.parametrize("left", [40, 4])
def test_remote_file_that_vanishes_after_the_listing_changes_the_fingerprint(bucket, monkeypatch, left):
    for name in sorted(OBJECTS)[left:]:
        monkeypatch.delitem(OBJECTS, name)
    before, plan = look(bucket)["labeled"], sources.plan

    def plan_and_lose_one(source):
        planned = plan(source)
        monkeypatch.delitem(OBJECTS, min(OBJECTS), raising=False)
        return planned

    assert look(bucket)["labeled"] == before
    monkeypatch.setattr(sources, "plan", plan_and_lose_one)
    assert look(bucket)["labeled"].fingerprint != before.fingerprint


def test_many_remote_files_are_looked_at_in_few_requests(bucket, monkeypatch):
    asked, exists, listed = [], MemoryFileSystem.exists, MemoryFileSystem._list
    monkeypatch.setattr(MemoryFileSystem, "exists", lambda self, path: asked.append(path) or exists(self, path))
    monkeypatch.setattr(MemoryFileSystem, "_list", lambda self, path: asked.append(path) or listed(self, path))
    look(bucket)
    assert len(asked) < 10


def test_archive_that_vanishes_after_the_listing_is_left_to_ingestion(tmp_path, monkeypatch):
    (tmp_path / "a.tar").write_bytes(b"")
    (tmp_path / "b.png").write_bytes(b"")
    plan = sources.plan

    def plan_and_lose_one(source):
        planned = plan(source)
        (tmp_path / "a.tar").unlink(missing_ok=True)
        return planned

    monkeypatch.setattr(sources, "plan", plan_and_lose_one)
    assert look(tmp_path)["labeled"].at_most is None
