import numpy as np
import pytest
import tensorflow as tf
from example_files import random_images, write_examples

from trainer import data, images


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    path = tmp_path_factory.mktemp("examples") / "examples.gz"
    return write_examples(path, random_images(11), labels=list(range(11)))


@pytest.fixture(scope="module")
def ragged(tmp_path_factory):
    sizes = [(8, 8), (8, 13), (10, 8), (8, 9)]
    ragged_images = [random_images(1, height=h, width=w, seed=h * w)[0] for h, w in sizes]
    path = tmp_path_factory.mktemp("ragged") / "examples"
    return write_examples(path, ragged_images, labels=[0, 1, 2, 3]), ragged_images


def collect(dataset):
    return [{name: value.numpy() for name, value in batch.items()} for batch in dataset]


def labels_of(batches):
    return [batch["label"].tolist() for batch in batches]


def assert_batches_equal(ours, expected):
    assert len(ours) == len(expected) > 0
    for batch, other in zip(ours, expected, strict=True):
        assert batch.keys() == other.keys()
        for name in batch:
            np.testing.assert_array_equal(batch[name], other[name], err_msg=name)


def train_batches(files, **settings):
    return collect(data.training_batches(files, **{"batch_size": 3, "epochs": 4, "seed": 5} | settings))


def test_open_examples_counts_and_measures(files, ragged):
    assert (files.count, files.short_side_px, files.canvas_px) == (11, 8, (8, 8))
    assert (ragged[0].count, ragged[0].short_side_px, ragged[0].canvas_px) == (4, 8, (10, 13))


def test_open_examples_several_patterns_are_read_as_one_sorted_set(tmp_path):
    for name in ("b-1", "a-1", "a-0"):
        write_examples(tmp_path / name, random_images(2), keys=[f"{name}/0", f"{name}/1"])
    files = data.open_examples([str(tmp_path / "b-*"), str(tmp_path / "a-*")])
    assert [path.rsplit("/", 1)[1] for path in files.paths] == ["a-0", "a-1", "b-1"]
    assert files.count == 6


def test_open_examples_missing_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="nothing-here"):
        data.open_examples([str(tmp_path / "nothing-here*")])


def test_open_examples_empty_file_is_refused(tmp_path):
    tf.io.TFRecordWriter(str(tmp_path / "empty")).close()
    with pytest.raises(ValueError, match="hold no examples"):
        data.open_examples([str(tmp_path / "empty")])


def test_training_batches_same_seed_repeats_and_another_does_not(files):
    first = train_batches(files)
    assert_batches_equal(train_batches(files), first)
    assert labels_of(train_batches(files, seed=6)) != labels_of(first)


def test_training_batches_iterated_twice_repeats(files):
    dataset = data.training_batches(files, batch_size=3, epochs=2, seed=5)
    assert_batches_equal(collect(dataset), collect(dataset))


def test_training_batches_every_epoch_sees_each_example_once_in_another_order(files):
    epochs = [[], [], [], []]
    for batch in train_batches(files, batch_size=1):
        epochs[batch["epoch"][0]] += batch["label"].tolist()
    assert all(sorted(epoch) == list(range(11)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert list(range(11)) not in epochs


def test_training_batches_partial_batch_is_dropped_at_each_epochs_end(files):
    batches = train_batches(files)
    assert [batch["epoch"].tolist() for batch in batches] == [[epoch] * 3 for epoch in range(4) for _ in range(3)]
    for epoch in range(4):
        seen = np.concatenate(labels_of(batches[3 * epoch : 3 * epoch + 3]))
        assert len(set(seen)) == 9


@pytest.mark.parametrize("first_step", [1, 3, 4, 11])
def test_training_batches_from_a_later_step_equal_the_tail(files, first_step):
    assert_batches_equal(train_batches(files, first_step=first_step), train_batches(files)[first_step:])


def test_training_batches_batch_larger_than_the_set_is_refused_with_both_numbers(files):
    with pytest.raises(ValueError, match=r"batch of 12 .* 11 images"):
        data.training_batches(files, batch_size=12, epochs=1, seed=0)


def test_training_batches_whole_set_in_one_batch_is_accepted(files):
    assert len(train_batches(files, batch_size=11)) == 4


def test_training_batches_ragged_images_lie_in_the_corner_of_a_zero_canvas(ragged):
    files, originals = ragged
    (batch,) = train_batches(files, batch_size=4, epochs=1)
    assert batch["image"].shape == (4, 10, 13, 3) and batch["image"].dtype == np.uint8
    for image, size, label in zip(batch["image"], batch["size"], batch["label"], strict=True):
        original = originals[label]
        assert tuple(size) == original.shape[:2]
        np.testing.assert_array_equal(image[: size[0], : size[1]], original)
        assert image.sum(dtype=np.int64) == original.sum(dtype=np.int64)


def test_training_batches_keys_are_hashes_of_the_keys_alone(files, tmp_path):
    other = write_examples(tmp_path / "other", random_images(11, seed=9)[::-1], labels=list(range(11)))
    hashes = {label: key for b in train_batches(files) for label, key in zip(b["label"], b["key"], strict=True)}
    again = {label: key for b in train_batches(other) for label, key in zip(b["label"], b["key"], strict=True)}
    assert hashes == again and len(set(hashes.values())) == 11
    assert max(hashes.values()) > 2**40


def test_training_batches_unlabeled_examples_say_so(tmp_path):
    files = write_examples(tmp_path / "unlabeled", random_images(3))
    (batch,) = train_batches(files, epochs=1)
    assert batch["label"].tolist() == [-1, -1, -1]


def test_evaluation_batches_every_example_once_in_the_files_order(files):
    batches = collect(data.evaluation_batches(files, size_px=8, batch_size=4))
    assert labels_of(batches) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    keys = np.concatenate([batch["key"] for batch in batches]).tolist()
    assert keys == [f"image-{index:03d}".encode() for index in range(11)]


def test_evaluation_batches_images_are_the_evaluation_view(ragged):
    files, originals = ragged
    (batch,) = collect(data.evaluation_batches(files, size_px=6))
    for image, original in zip(batch["image"], originals, strict=True):
        np.testing.assert_allclose(image, images.evaluation_view(tf.constant(original), size_px=6), atol=1e-6)
