import json
from collections import Counter

import pytest
import tensorflow as tf
from tfx import types
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import artifact_utils, standard_artifacts

from components.artifacts import LabelFractions
from components.label_fraction_split.executor import Executor
from trainer.label_fractions import select

CLASSES = ["zebra", "ant", "cat"]


def feature(value):
    if isinstance(value, int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def record(key, label, label_index=None):
    features = {
        "image": feature(b"image of " + key.encode()),
        "key": feature(key.encode()),
        "label": feature(label.encode()),
        "label_index": feature(CLASSES.index(label) if label_index is None else label_index),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


TRAIN = [record(f"train-{i}", CLASSES[i % 3]) for i in range(60)]
TEST = [record(f"test-{i}", CLASSES[i % 3]) for i in range(6)]


def write_examples(directory, *, shards=1, **splits):
    examples = standard_artifacts.Examples()
    examples.uri = str(directory)
    examples.split_names = artifact_utils.encode_split_names(list(splits))
    for split, records in splits.items():
        split_dir = directory / f"Split-{split}"
        split_dir.mkdir(parents=True)
        for shard in range(shards):
            path = str(split_dir / f"transformed_examples-{shard:05}-of-{shards:05}.gz")
            with tf.io.TFRecordWriter(path, "GZIP") as writer:
                for serialized in records[shard::shards]:
                    writer.write(serialized)
    return examples


def run(examples, directory, *, fractions="[0.1, 0.5]", seed=0, **more):
    manifest, output = LabelFractions(), standard_artifacts.Examples()
    manifest.uri, output.uri = str(directory / "manifest"), str(directory / "examples")
    executor = Executor(BaseBeamExecutor.Context())
    executor.Do(
        {"examples": [examples]},
        {"manifest": [manifest], "fraction_examples": [output]},
        {"fractions": fractions, "seed": seed, "code_version": "", **more},
    )
    return json.loads((directory / "manifest" / "manifest.json").read_text()), output


def read(examples: types.Artifact, split):
    pattern = artifact_utils.get_split_uri([examples], split) + "/data_tfrecord-*-of-*.gz"
    records = tf.data.TFRecordDataset(tf.io.gfile.glob(pattern), "GZIP").as_numpy_iterator()
    return [tf.train.Example.FromString(serialized) for serialized in records]


def text(example, name):
    return example.features.feature[name].bytes_list.value[0].decode()


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    directory = tmp_path_factory.mktemp("split")
    return run(write_examples(directory / "input", train=TRAIN, test=TEST), directory)


def test_manifest_lists_counts_and_keys_in_the_order_of_their_hashes(result):
    manifest, _ = result
    assert manifest["classes"] == CLASSES
    assert manifest["n_examples"] == 60
    assert manifest["seed"] == 0
    keys_by_class = {label: [f"train-{i}" for i in range(60) if CLASSES[i % 3] == label] for label in CLASSES}
    for fraction, count in (("0.1", 2), ("0.5", 10)):
        assert manifest["fractions"][fraction] == {
            "counts": dict.fromkeys(CLASSES, count),
            "keys": select(keys_by_class, float(fraction), seed=0),
        }


def test_nothing_but_the_manifest_is_left_in_its_directory(result, tmp_path):
    run(write_examples(tmp_path / "input", train=TRAIN, test=TEST), tmp_path)
    assert [path.name for path in (tmp_path / "manifest").iterdir()] == ["manifest.json"]


def test_each_split_holds_the_examples_of_the_manifest_whole(result):
    manifest, output = result
    assert artifact_utils.decode_split_names(output.split_names) == ["fraction-10pct", "fraction-50pct", "test"]
    assert output.get_string_custom_property("payload_format") == "FORMAT_TF_EXAMPLE"
    for split, fraction in (("fraction-10pct", "0.1"), ("fraction-50pct", "0.5")):
        written = read(output, split)
        listed = {key: label for label, keys in manifest["fractions"][fraction]["keys"].items() for key in keys}
        assert {text(example, "key"): text(example, "label") for example in written} == listed
        assert len(written) == len(listed)
        assert all(text(example, "image") == "image of " + text(example, "key") for example in written)


def test_test_split_is_passed_through(result):
    _, output = result
    passed = [example.SerializeToString(deterministic=True) for example in read(output, "test")]
    assert Counter(passed) == Counter(
        tf.train.Example.FromString(serialized).SerializeToString(deterministic=True) for serialized in TEST
    )


def test_other_shards_and_reading_order_give_the_same_manifest(result, tmp_path):
    examples = write_examples(tmp_path / "input", shards=3, train=TRAIN[::-1], test=TEST)
    assert run(examples, tmp_path)[0] == result[0]


def test_class_without_training_examples_is_refused_by_name(tmp_path):
    train = [serialized for i, serialized in enumerate(TRAIN) if CLASSES[i % 3] != "zebra"]
    examples = write_examples(tmp_path / "input", train=train, test=TEST)
    with pytest.raises(ValueError, match=r"The class 'zebra' has 2 example\(s\) in the 'test' split and none in"):
        run(examples, tmp_path)


def test_missing_split_is_refused_by_name(tmp_path):
    examples = write_examples(tmp_path / "input", train=TRAIN)
    with pytest.raises(ValueError, match=r"'train' and 'test'; received \['train'\]"):
        run(examples, tmp_path)


def test_with_a_store_no_image_changes_its_split_when_labels_arrive(tmp_path):
    def splits(train, name, **more):
        examples = write_examples(tmp_path / name / "input", train=train, test=TEST)
        manifest, output = run(examples, tmp_path / name, **more)
        found = {}
        for split, fraction in (("fraction-10pct", "0.1"), ("fraction-50pct", "0.5")):
            found[split] = {text(example, "key") for example in read(output, split)}
            assert found[split] == {key for keys in manifest["fractions"][fraction]["keys"].values() for key in keys}
        return found

    store = str(tmp_path / "store")
    grown = TRAIN + [record(f"late-{i}", CLASSES[i % 3]) for i in range(45)]
    before, after = splits(TRAIN, "before", store=store), splits(grown, "after", store=store)
    anew = splits(grown, "anew")
    for split, keys in before.items():
        assert {key for key in after[split] if key.startswith("train-")} == keys
        assert len(after[split]) == len(anew[split]) > len(keys)
    # Without what the store keeps, some would have changed theirs.
    assert {key for keys in anew.values() for key in keys if key.startswith("train-")} != set().union(
        *before.values()
    )
