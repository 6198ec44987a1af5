import os

import pytest

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
