import numpy as np
import pytest
import tensorflow as tf
from example_files import random_images, write_examples

from trainer import data, images


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    path = tmp_path_factory.mktemp("examples") / "examples.gz"
    return write_examples(path, random_images(11), labels=list(range(11)))


@pytest.fixture(scope="module", params=["held", "stream", "folder"])
def files(request, records, tmp_path_factory):
    """The same examples in memory, as a stream of records, and as files that are read one by one."""
    if request.param == "held":
        return records
    if request.param == "stream":
        return not_held(data.open_examples(records.paths))
    folder = tmp_path_factory.mktemp("folder")
    for index, image in enumerate(random_images(11)):
        (folder / f"{index:02d}").mkdir()
        tf.io.write_file(str(folder / f"{index:02d}" / "image.png"), tf.io.encode_png(image))
    return not_held(data.open_folder(str(folder)))


def not_held(files):
    """As a set that is too large for memory."""
    vars(files)["held"] = files
    return files


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


def test_training_batches_keys_are_hashes_of_the_keys_alone(records, tmp_path):
    other = write_examples(tmp_path / "other", random_images(11, seed=9)[::-1], labels=list(range(11)))
    hashes = {label: key for b in train_batches(records) for label, key in zip(b["label"], b["key"], strict=True)}
    again = {label: key for b in train_batches(other) for label, key in zip(b["label"], b["key"], strict=True)}
    assert hashes == again and len(set(hashes.values())) == 11
    assert max(hashes.values()) > 2**40


def test_training_batches_unlabeled_examples_say_so(tmp_path):
    files = write_examples(tmp_path / "unlabeled", random_images(3))
    (batch,) = train_batches(files, epochs=1)
    assert batch["label"].tolist() == [-1, -1, -1]


def test_training_batches_are_tuned_only_where_they_are_read_one_by_one(records, tmp_path):
    write_examples(tmp_path / "examples.gz", random_images(11), labels=list(range(11)))
    read = not_held(data.open_examples([str(tmp_path / "examples.gz")]))
    batches = [data.training_batches(files, batch_size=3, epochs=1, seed=5) for files in (records, read)]
    assert [batch.options().autotune.enabled for batch in batches] == [False, None]


def test_training_batches_held_and_read_one_by_one_are_the_same(records, tmp_path):
    for index, image in enumerate(random_images(5)):
        tf.io.write_file(str(tmp_path / f"{index}.png"), tf.io.encode_png(image))
    held, read = data.open_folder(str(tmp_path)), not_held(data.open_folder(str(tmp_path)))
    assert held.held is not held
    assert_batches_equal(train_batches(held), train_batches(read))


def test_training_batches_another_seed_is_no_other_epoch_of_this_one(files):
    """Once epoch e of seed s was epoch e − 1 of seed s + 1."""
    orders = [tuple(batch["label"]) for seed in range(3) for batch in train_batches(files, batch_size=11, seed=seed)]
    assert len(orders) == len(set(orders)) == 12


def test_training_batches_first_places_are_uniform(records):
    """Each of 11 images comes first in about one of 11 epochs: χ² with 10 degrees of freedom, p < 1e-4 at 38."""
    batches = train_batches(records, batch_size=11, epochs=550)
    for place in (0, 5, 10):
        counts = np.bincount([batch["label"][place] for batch in batches], minlength=11)
        assert ((counts - 50) ** 2 / 50).sum() < 38


@pytest.mark.parametrize(("pipelines", "replicas", "first_step"), [(1, 2, 0), (2, 4, 3)])
def test_training_batches_shares_of_all_replicas_are_the_whole_batch(files, pipelines, replicas, first_step):
    whole = train_batches(files, batch_size=4, first_step=first_step)
    shares = [
        train_batches(
            files,
            batch_size=4,
            first_step=first_step,
            context=tf.distribute.InputContext(pipelines, pipeline, replicas),
        )
        for pipeline in range(pipelines)
    ]
    assert {batch["image"].shape[0] for share in shares for batch in share} == {4 // replicas}
    local = replicas // pipelines
    for step, batch in enumerate(whole):
        parts = [part for share in shares for part in share[local * step : local * (step + 1)]]
        assert_batches_equal([{name: np.concatenate([part[name] for part in parts]) for name in batch}], [batch])
    assert all(len(share) == local * len(whole) for share in shares)


def test_training_batches_decode_only_their_own_share(tmp_path):
    for index in range(8):
        tf.io.write_file(str(tmp_path / f"{index}.png"), tf.io.encode_png(random_images(1)[0]))
    folder = not_held(data.open_folder(str(tmp_path)))
    contexts = [tf.distribute.InputContext(2, pipeline, 2) for pipeline in range(2)]
    (first,) = train_batches(folder, batch_size=8, epochs=1, context=contexts[0])
    # The other pipeline's files become unreadable; this one never opens them.
    keys = tf.strings.to_hash_bucket_fast(folder.names, 2**62).numpy()
    for name, key in zip(folder.names, keys, strict=True):
        if key not in first["key"]:
            (tmp_path / name).write_bytes(b"broken")
    assert_batches_equal(train_batches(folder, batch_size=8, epochs=1, context=contexts[0]), [first])
    with pytest.raises(tf.errors.InvalidArgumentError):
        train_batches(folder, batch_size=8, epochs=1, context=contexts[1])


def test_training_batches_batch_that_replicas_cannot_share_is_refused(records):
    with pytest.raises(ValueError, match="batch of 3 cannot be shared equally by 2 replicas"):
        train_batches(records, context=tf.distribute.InputContext(1, 0, 2))


def sampled(files, **settings):
    return collect(data.sample_batches(files, **{"batch_size": 2, "n_batches": 2, "seed": 5} | settings))


def test_sample_batches_are_made_like_those_of_the_first_epoch(files):
    trained = {label: key for b in train_batches(files) for label, key in zip(b["label"], b["key"], strict=True)}
    batches = sampled(files)
    assert [batch["epoch"].tolist() for batch in batches] == [[0, 0], [0, 0]]
    assert batches[0].keys() == train_batches(files)[0].keys() and batches[0]["image"].shape == (2, 8, 8, 3)
    labels = np.concatenate(labels_of(batches)).tolist()
    assert np.concatenate([batch["key"] for batch in batches]).tolist() == [trained[label] for label in labels]
    assert len(set(labels)) == 4
    assert_batches_equal(sampled(files), batches)


def test_sample_batches_of_a_stream_come_from_all_over_it_without_a_shuffle_buffer(records, monkeypatch):
    monkeypatch.delattr(tf.data.Dataset, "shuffle")
    stream = not_held(data.open_examples(records.paths))
    assert labels_of(sampled(stream)) == [[0, 2], [4, 6]]
    assert labels_of(sampled(stream, batch_size=11, n_batches=1)) == [list(range(11))]


def test_evaluation_batches_every_example_once_in_the_files_order(files):
    batches = collect(data.evaluation_batches(files, size_px=8, batch_size=4))
    assert labels_of(batches) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    keys = np.concatenate([batch["key"] for batch in batches]).tolist()
    assert len(set(keys)) == 11 and keys == sorted(keys)


def test_evaluation_batches_images_are_the_evaluation_view(ragged):
    files, originals = ragged
    (batch,) = collect(data.evaluation_batches(files, size_px=6))
    for image, original in zip(batch["image"], originals, strict=True):
        np.testing.assert_allclose(image, images.evaluation_view(tf.constant(original), size_px=6), atol=1e-6)
