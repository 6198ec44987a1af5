import io
import json

import numpy as np
import pytest
import tensorflow as tf
from example_files import random_images, read_all, save, write_examples
from PIL import Image

from trainer import data, images, sources


def two_examples(root, kind, *, key="1", label=0, brightness=0):
    """Two images, of which the second is as it is said."""
    pixels, keys, labels = random_images(2, seed=3) // 2, ["0", key], [1, label]
    pixels[1] += np.uint8(brightness)
    if kind == "records":
        root.mkdir()
        return write_examples(root / "examples", pixels, labels=labels, keys=keys)
    for image, name, index in zip(pixels, keys, labels, strict=True):
        save(root / ("cat", "dog", "eel")[index] / f"{name}.png", image)
    return data.open_folder(str(root))


@pytest.mark.parametrize("kind", ["records", "folder"])
def test_fingerprint_is_of_the_examples_and_not_of_their_place(tmp_path, kind):
    one = sources.fingerprint(two_examples(tmp_path / "one", kind))
    assert sources.fingerprint(two_examples(tmp_path / "elsewhere", kind)) == one == json.loads(json.dumps(one))
    for name, change in {"key": {"key": "2"}, "label": {"label": 1}, "image": {"brightness": 1}}.items():
        other = sources.fingerprint(two_examples(tmp_path / name, kind, **change))
        assert {field for field in one if one[field] != other[field]} - {"classes"} == {"examples"}, name


def test_fingerprint_of_records_is_of_the_examples_in_whatever_files_and_order(tmp_path):
    pixels, keys = random_images(5, seed=3), [f"{index}" for index in range(5)]
    whole = sources.fingerprint(write_examples(tmp_path / "whole", pixels, keys=keys))
    for name, rows in {"a": [4, 2], "b": [1, 0, 3]}.items():
        write_examples(tmp_path / f"part-{name}", pixels[rows], keys=[keys[row] for row in rows])
    assert sources.fingerprint(data.open_examples([str(tmp_path / "part-*")])) == whole
    exchanged = write_examples(tmp_path / "exchanged", pixels[::-1], keys=keys)
    twice = write_examples(tmp_path / "twice", pixels[[0, 1, 2, 3, 3]], keys=[*keys[:4], keys[3]])
    assert whole not in (sources.fingerprint(exchanged), sources.fingerprint(twice))


def test_fingerprint_of_the_same_files_at_another_size_is_another(tmp_path):
    one = sources.fingerprint(two_examples(tmp_path / "one", "folder"))
    other = sources.fingerprint(data.open_folder(str(tmp_path / "one"), short_side_px=6))
    assert {field for field in one if one[field] != other[field]} == {"short_side_px"}


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "GIF", "BMP"])
def test_encoded_size_reads_height_and_width_beyond_one_byte(file_format):
    buffer = io.BytesIO()
    Image.fromarray(np.zeros([3, 700, 3], np.uint8)).save(buffer, file_format)
    assert images.encoded_size(buffer.getvalue()) == (3, 700)


@pytest.mark.parametrize(("height", "width"), [(64, 48), (37, 74), (50, 201), (201, 50), (7, 5), (1, 1), (33, 90)])
def test_canonical_size_is_that_of_the_canonical_image(height, width):
    png = tf.io.encode_png(random_images(1, height=height, width=width)[0])
    expected = images.canonical_image(png, short_side_px=32).shape[:2]
    assert tuple(images.canonical_size(tf.constant([[height, width]]), short_side_px=32)[0].numpy()) == tuple(
        expected
    )


def test_held_examples_read_as_the_files_do(tmp_path):
    for index, (height, width) in enumerate([(8, 8), (8, 13), (10, 8)]):
        save(tmp_path / f"{index}.png", random_images(1, height=height, width=width)[0])
    folder = data.open_folder(str(tmp_path))
    for held, read in zip(read_all(folder.held), read_all(folder), strict=True):
        assert held.keys() == read.keys()
        for name in held:
            np.testing.assert_array_equal(held[name], read[name])


@pytest.mark.parametrize(("limit", "is_held"), [(2 * 8 * 8 * 3, True), (2 * 8 * 8 * 3 - 1, False)])
def test_held_sets_are_those_that_fit(tmp_path, monkeypatch, limit, is_held):
    monkeypatch.setattr(sources, "_MEMORY_BYTES", limit)
    files = write_examples(tmp_path / "examples", random_images(2))
    assert (files.held is not files) == is_held


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_examples(tmp_path_factory.mktemp("examples") / "examples.gz", random_images(11))


@pytest.fixture(scope="module")
def ragged(tmp_path_factory):
    ragged_images = [random_images(1, height=h, width=w)[0] for h, w in [(8, 8), (8, 13), (10, 8), (8, 9)]]
    return write_examples(tmp_path_factory.mktemp("ragged") / "examples", ragged_images)


def test_open_examples_counts_and_measures(files, ragged):
    assert (files.count, files.short_side_px, files.canvas_px) == (11, 8, (8, 8))
    assert (ragged.count, ragged.short_side_px, ragged.canvas_px) == (4, 8, (10, 13))


def test_open_examples_several_patterns_are_read_as_one_sorted_set(tmp_path):
    for name in ("b-1", "a-1", "a-0"):
        write_examples(tmp_path / name, random_images(2), keys=[f"{name}/0", f"{name}/1"])
    files = data.open_examples([str(tmp_path / "b-*"), str(tmp_path / "a-*")])
    assert [path.rsplit("/", 1)[1] for path in files.paths] == ["a-0", "a-1", "b-1"]
    assert files.count == 6


def test_open_examples_missing_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="nothing-here"):
        data.open_examples([str(tmp_path / "nothing-here*")])


@pytest.mark.parametrize("damage", ["cut short", "flipped", "no records"])
def test_open_examples_damaged_file_is_named_with_what_to_do(tmp_path, damage):
    for name in ("a-0", "a-1", "a-2"):
        write_examples(tmp_path / name, random_images(2), keys=[f"{name}/0", f"{name}/1"])
    content = bytearray((tmp_path / "a-1").read_bytes())
    if damage == "cut short":
        del content[-5:]
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
    else:
        content = b"no record in here"
    (tmp_path / "a-1").write_bytes(content)
    with pytest.raises(ValueError, match=r"a-1 is cut short, damaged or no TFRecord file: make it anew"):
        data.open_examples([str(tmp_path / "a-*")])


def test_open_examples_empty_file_is_refused(tmp_path):
    tf.io.TFRecordWriter(str(tmp_path / "empty")).close()
    with pytest.raises(ValueError, match="hold no examples"):
        data.open_examples([str(tmp_path / "empty")])


def test_record_files_shuffled_mixes_the_files(tmp_path, monkeypatch):
    """A buffer that is smaller than a file must not leave each file's examples together."""
    monkeypatch.setattr(sources, "_SHUFFLE_BUFFER", 4)
    for name in "abcd":
        write_examples(tmp_path / name, random_images(8), keys=[f"{name}{index}" for index in range(8)])
    files = data.open_examples([str(tmp_path / "*")])
    keys = [
        [files.read(record)["key"].numpy().decode() for record in files.shuffled(tf.constant([seed, 1], tf.uint32))]
        for seed in range(2)
    ]
    assert sorted(keys[0]) == sorted(keys[1]) and len(set(keys[0])) == 32 and keys[0] != keys[1]
    assert {key[0] for key in keys[0][:12]} == set("abcd")


@pytest.mark.parametrize("global_seed", [0, 1])
def test_order_of_a_stream_follows_from_its_key_alone(tmp_path, request, global_seed):
    files = write_examples(tmp_path / "a.tfrecord", random_images(12))

    def order():
        key = tf.constant([3, 1], tf.uint32)
        epochs = tf.data.Dataset.range(1).flat_map(lambda epoch: files.shuffled(key + tf.cast(epoch, tf.uint32)))
        return [files.read(record)["key"].numpy().decode() for record in epochs]

    expected = order()
    request.addfinalizer(lambda: tf.random.set_seed(None))
    tf.random.set_seed(global_seed)
    assert order() == expected


def test_record_files_are_shuffled_in_no_more_memory_than_a_set_may_be_held_in(tmp_path, monkeypatch):
    """Where one example fills it, none can be passed over; in twice that, the neighbours can change places."""
    files = write_examples(tmp_path / "a.tfrecord", random_images(12))
    keys = [f"image-{index:03d}" for index in range(12)]

    def order():
        records = files.shuffled(tf.constant([3, 1], tf.uint32))
        return [files.read(record)["key"].numpy().decode() for record in records]

    assert order() != keys
    monkeypatch.setattr(sources, "_MEMORY_BYTES", files.encoded_bytes // 12)
    assert order() == keys
    monkeypatch.setattr(sources, "_MEMORY_BYTES", files.encoded_bytes // 6)
    mixed = order()
    assert mixed != keys and all(mixed.index(key) >= keys.index(key) - 1 for key in keys)


def test_record_files_shuffled_starts_with_other_files_under_another_key(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_SHUFFLE_BUFFER", 1)
    monkeypatch.setattr(sources, "_FILES_AT_ONCE", 1)
    for name in "abcd":
        write_examples(tmp_path / name, random_images(1), keys=[name])
    files = data.open_examples([str(tmp_path / "*")])
    orders = {
        "".join(files.read(record)["key"].numpy().decode() for record in files.shuffled(key))
        for key in tf.unstack(tf.constant([[seed, 1] for seed in range(9)], tf.uint32))
    }
    assert {tuple(sorted(order)) for order in orders} == {tuple("abcd")} and len({order[0] for order in orders}) > 1
