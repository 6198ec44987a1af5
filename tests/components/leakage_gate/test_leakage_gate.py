"""LeakageGate on TFRecords, under another key, in any split, and as a node."""

import json
import shutil

import pytest
import tensorflow as tf
from tfx.types import artifact_utils, standard_artifacts

from components.artifacts import Leakage
from components.image_example_gen import splits
from components.leakage_gate.executor import Executor


def write(uri, images):
    tf.io.gfile.makedirs(str(uri))
    with tf.io.TFRecordWriter(str(uri / "data_tfrecord-00000-of-00001.gz"), "GZIP") as writer:
        for key, content in images.items():
            example = tf.train.Example()
            example.features.feature["key"].bytes_list.value.append(key.encode())
            example.features.feature["image_bytes"].bytes_list.value.append(content)
            # What ingestion recorded does not count: here it claims that all are different.
            example.features.feature["sha256"].bytes_list.value.append(f"{uri}{key}".encode())
            writer.write(example.SerializeToString())


def examples(directory, **splits):
    artifact = standard_artifacts.Examples()
    artifact.uri = str(directory)
    artifact.split_names = artifact_utils.encode_split_names(list(splits))
    for split, images in splits.items():
        write(directory / f"Split-{split}", images)
    return artifact


@pytest.fixture
def gate(tmp_path):
    def gate(*, train, test, store=None, **unlabeled):
        leakage = Leakage()
        leakage.uri = str(tmp_path / "leakage")
        inputs = {
            "labeled": [examples(tmp_path / "labeled", train=train, test=test)],
            "unlabeled": [examples(tmp_path / "unlabeled", **unlabeled)],
        }
        Executor().Do(inputs, {"leakage": [leakage]}, {"store": store} if store else {})

    return gate


def found(tmp_path):
    return json.loads((tmp_path / "leakage" / "leakage.json").read_text())


def test_images_apart_pass_and_are_counted(gate, tmp_path):
    gate(train={"a": b"1", "b": b"2"}, test={"c": b"3"}, train_={"a": b"1", "d": b"4", "e": b"5"})
    assert found(tmp_path) == {"test": 1, "training": {"labeled": 2, "unlabeled": 3}, "leaks": []}
    assert sorted(path.name for path in (tmp_path / "leakage").iterdir()) == ["leakage.json"]


@pytest.mark.parametrize("turn", [list, lambda lines: lines[::-1]])
def test_sources_are_told_in_one_order_whatever_order_beam_writes_in(gate, tmp_path, monkeypatch, turn):
    compare = Executor._compare
    monkeypatch.setattr(Executor, "_compare", lambda *arguments: turn(sorted(compare(*arguments), key=str)))
    gate(train={"a": b"1"}, test={"c": b"3"}, train_={"d": b"4"})
    assert list(found(tmp_path)["training"]) == ["labeled", "unlabeled"]


@pytest.mark.parametrize(("key", "split", "earlier"), [("a", "train", "test"), ("c", "test", "train")])
def test_labelled_image_that_has_changed_sides_since_an_earlier_run_stops_the_run(
    gate, tmp_path, key, split, earlier
):
    images = {"train": {"a": b"1", "b": b"2"}, "test": {"c": b"3"}}
    recorded = {
        f"{tmp_path}/labeled/Split-{side}{name}": side for side, contents in images.items() for name in contents
    }
    store = str(tmp_path / "store")
    splits.keep(store, recorded)
    gate(**images, unlabeled={"d": b"4"}, store=store)
    shutil.rmtree(store)
    splits.keep(store, recorded | {f"{tmp_path}/labeled/Split-{split}{key}": earlier})
    with pytest.raises(ValueError, match=f"1 labelled images have changed sides: '{key}' is in the {split} split"):
        gate(**images, unlabeled={"d": b"4"}, store=store)


@pytest.mark.parametrize("place", ["labeled", "unlabeled", "second split of unlabeled"])
def test_test_image_under_another_key_stops_the_run_wherever_it_is(gate, tmp_path, place):
    images = {"labeled": {"a": b"1"}, "unlabeled": {"b": b"2"}, "second split of unlabeled": {"d": b"4"}}
    images[place]["other\nname"] = b"3"
    with pytest.raises(ValueError, match=r"1 are both: \w+ 'other\\nname' is test image 'c'"):
        gate(
            train=images["labeled"],
            test={"c": b"3"},
            old=images["unlabeled"],
            new=images["second split of unlabeled"],
        )
    assert [leak["key"] for leak in found(tmp_path)["leaks"]] == ["other\nname"]


def test_many_leaks_are_counted_and_some_named(gate):
    images = {f"k{number}": bytes([number]) for number in range(9)}
    with pytest.raises(ValueError, match=r"9 are both: .*'k4' is test image 'k4' and 4 more\. Take them out"):
        gate(train={"a": b"else"}, test=images, train_=images)


def test_empty_split_is_no_leak(gate, tmp_path):
    gate(train={"a": b"1"}, test={"c": b"3"}, train_={})
    assert found(tmp_path)["training"] == {"labeled": 1, "unlabeled": 0}
