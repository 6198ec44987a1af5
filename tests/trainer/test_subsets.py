import numpy as np
import pytest
import tensorflow as tf
from example_files import random_images, write_examples
from PIL import Image

from trainer import data, folders, sources, subsets


def folder(root, names, *, seed=0):
    for name, image in zip(names, random_images(len(names), seed=seed), strict=True):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / name)
    return folders.open_folder(str(root))


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    names = [f"{('ant', 'bee')[index % 2]}/{index}.png" for index in range(20)]
    return folder(tmp_path_factory.mktemp("classes"), [*names, "none.png"])


def examples(files):
    return {
        batch["key"].decode(): (batch["label"], batch["image"].tobytes())
        for batch in data.evaluation_batches(files, size_px=8).unbatch().as_numpy_iterator()
    }


def checksums(files):
    return dict(zip((name.rsplit("/", 1)[-1] for name in files.names), files.checksums, strict=True))


def test_label_fraction_takes_the_same_share_of_each_class_and_nests(classes):
    whole, tenth, half = (subsets.label_fraction(classes, fraction, seed=1) for fraction in (1.0, 0.1, 0.5))
    assert [files.count for files in (whole, tenth, half)] == [20, 2, 10]
    assert sorted(half.labels) == [0] * 5 + [1] * 5
    assert set(tenth.names) < set(half.names) < set(whole.names) and "none.png" not in whole.names
    assert examples(half).items() <= examples(classes).items()
    assert checksums(half).items() <= checksums(classes).items() and len(set(checksums(classes).values())) == 21
    assert set(subsets.label_fraction(classes, 0.5, seed=2).names) != set(half.names)


def test_with_labels_of_the_same_folder_leaves_the_other_labels_out(classes):
    tenth = subsets.label_fraction(classes, 0.1, seed=1)
    joined = examples(subsets.with_labels_of(classes, tenth))
    assert len(joined) == 21
    for name, (label, image) in examples(classes).items():
        assert joined[name] == (label if name in tenth.names else -1, image)


def test_with_labels_of_another_folder_has_the_images_of_both(classes, tmp_path):
    unlabeled = folder(tmp_path, ["bee/x.png", "y.png"], seed=5)
    joined = subsets.with_labels_of(unlabeled, classes)
    assert joined.count == 23 and joined.classes == ("ant", "bee") and joined.canvas_px == (8, 8)
    assert checksums(joined) == checksums(classes) | checksums(unlabeled)
    found = list(examples(joined).values())
    expected = [*examples(classes).values(), *((-1, image) for _, image in examples(unlabeled).values())]
    assert sorted(found) == sorted(expected)
    np.testing.assert_array_equal(sorted(label for label, _ in found), [-1] * 3 + [0] * 10 + [1] * 10)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Thirty images, said to be of class 1, and ten with the labels 0 and 1, larger ones."""
    root = tmp_path_factory.mktemp("records")
    keys = [f"u{index}" for index in range(30)], [f"l{index}" for index in range(10)]
    unlabeled = write_examples(root / "u", random_images(30), labels=[1] * 30, keys=keys[0])
    larger = random_images(10, height=12, width=10, seed=1)
    return unlabeled, write_examples(root / "l.gz", larger, labels=[0, 1] * 5, keys=keys[1])


def test_with_labels_of_records_has_the_images_of_both_and_the_labels_of_the_second(records):
    unlabeled, labeled = records
    joined = subsets.with_labels_of(unlabeled, labeled)
    assert (joined.count, joined.short_side_px, joined.canvas_px) == (40, 8, (12, 10))
    expected = {key: (-1, image) for key, (_, image) in examples(unlabeled).items()} | examples(labeled)
    assert examples(joined) == expected
    assert sorted(label for label, _ in expected.values()) == [-1] * 30 + [0] * 5 + [1] * 5


@pytest.mark.parametrize("is_held", [True, False])
def test_batches_of_joined_records_see_each_image_once_an_epoch_in_another_order(records, monkeypatch, is_held):
    if not is_held:
        monkeypatch.setattr(sources, "_MEMORY_BYTES", 40 * 12 * 10 * 3 - 1)
    joined = subsets.with_labels_of(*records)
    assert (joined.held is joined) is not is_held
    batches = list(data.training_batches(joined, batch_size=8, epochs=2, seed=3).as_numpy_iterator())
    keys = np.concatenate([batch["key"] for batch in batches]).reshape(2, 40)
    assert len(set(keys[0])) == 40 and set(keys[0]) == set(keys[1]) and list(keys[0]) != list(keys[1])
    labels = np.concatenate([batch["label"] for batch in batches])
    np.testing.assert_array_equal(np.sort(labels), [-1] * 60 + [0] * 10 + [1] * 10)


def test_stream_of_joined_records_has_as_many_labels_in_each_batch(records, monkeypatch):
    monkeypatch.setattr(sources, "_MEMORY_BYTES", 40 * 12 * 10 * 3 - 1)
    batches = data.training_batches(subsets.with_labels_of(*records), batch_size=8, epochs=3, seed=3)
    assert [int((batch["label"] >= 0).sum()) for batch in batches.as_numpy_iterator()] == [2] * 15


def test_sample_of_joined_records_is_of_both(records):
    joined = subsets.with_labels_of(*records)
    references = joined.sample(8, data._order_key(0, tf.constant(0, tf.int64)))
    assert sorted(int(joined.read(reference)["label"]) >= 0 for reference in references) == [False] * 6 + [True] * 2
    (alone,) = joined.sample(1, data._order_key(0, tf.constant(0, tf.int64)))
    assert int(joined.read(alone)["label"]) == -1


def test_joined_records_are_told_apart_by_either_set(records, tmp_path):
    unlabeled, labeled = records
    other = write_examples(tmp_path / "o", random_images(10, seed=2), labels=[0] * 10)
    joined = [(unlabeled, labeled), (unlabeled, other), (other, labeled), (labeled, unlabeled)]
    assert len({subsets.with_labels_of(*pair).identity for pair in joined}) == 4


def test_with_labels_of_records_and_a_folder_is_refused(records, classes):
    with pytest.raises(ValueError, match="they must be a folder of images"):
        subsets.with_labels_of(records[0], classes)
