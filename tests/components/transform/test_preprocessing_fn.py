import io

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from PIL import Image

from components.transform import preprocessing
from components.transform.preprocessing import LABEL_VOCABULARY, preprocessing_fn
from trainer import data

UNLABELED = {"image", "key", "channel_mean", "channel_std"}


def read(sample):
    spec = tft.TFTransformOutput(sample.graph).transformed_feature_spec()
    paths = tf.io.gfile.glob(sample.examples)
    records = tf.data.TFRecordDataset(paths, compression_type="GZIP")
    parsed = [tf.io.parse_single_example(record, spec) for record in records]
    return {row["key"].numpy().decode(): {name: value.numpy() for name, value in row.items()} for row in parsed}


@pytest.fixture(scope="module")
def examples(transformed):
    return read(transformed)


def pixels(png):
    return np.array(Image.open(io.BytesIO(png)))


def test_preprocessing_writes_every_image_once_under_its_key(examples, raw_images):
    assert examples.keys() == {image.key for image in raw_images}
    assert all(row.keys() == UNLABELED | {"label", "label_index"} for row in examples.values())


def test_preprocessing_short_side_zero_takes_the_median_of_the_data(examples, transform, raw_images):
    # 36 of 42 images have a short side of 32; those of the others are 17, 31, 33, 33, 40 and 200.
    assert {min(pixels(row["image"]).shape[:2]) for row in examples.values()} == {32}
    odd = transform(raw_images[-6:], short_side_px=0, max_short_side_px=64)
    assert {min(pixels(row["image"]).shape[:2]) for row in read(odd).values()} == {33}


def test_preprocessing_image_of_the_median_size_keeps_every_pixel(examples, raw_images):
    sampled = [image for image in raw_images if image.key.endswith(".png")]
    for image in sampled:
        np.testing.assert_array_equal(pixels(examples[image.key]["image"]), pixels(image.image_bytes))


def test_preprocessing_odd_sizes_keep_their_proportion_up_to_one_to_two(examples):
    sizes = {key: pixels(row["image"]).shape[1::-1] for key, row in examples.items() if key.startswith("odd")}
    assert sizes == {
        "odd-40x40.jpg": (32, 32),
        "odd-33x90.jpg": (32, 64),
        "odd-90x33.jpg": (64, 32),
        "odd-17x25.jpg": (32, 47),
        "odd-200x300.jpg": (32, 48),
        "odd-32x31.jpg": (33, 32),
    }


def test_preprocessing_label_indices_are_those_of_the_vocabulary(transformed, examples, raw_images):
    names = tft.TFTransformOutput(transformed.graph).vocabulary_by_name(LABEL_VOCABULARY)
    assert sorted(names) == sorted({image.label.encode() for image in raw_images})
    for image in raw_images:
        row = examples[image.key]
        assert row["label"] == image.label.encode() == names[row["label_index"]]


def test_preprocessing_output_is_what_the_trainer_opens(transformed):
    files = data.open_examples([transformed.examples])
    assert (files.count, files.short_side_px, files.canvas_px) == (42, 32, (64, 64))


def test_preprocessing_large_median_is_capped(transform, raw_images):
    sample = transform(raw_images[-2:], labeled=False, short_side_px=0, max_short_side_px=20)
    rows = read(sample).values()
    assert {min(pixels(row["image"]).shape[:2]) for row in rows} == {20}
    assert all(row.keys() == UNLABELED for row in rows), "unlabeled examples get no label features"


def test_preprocessing_tells_the_statistics_of_the_channels_in_every_row(examples, raw_images):
    moments = []
    for raw in raw_images:
        step = max(1, min(raw.width, raw.height) // 64)
        image = pixels(raw.image_bytes)[::step, ::step].reshape(-1, 3) / 255
        moments.append([image.mean(axis=0), (image**2).mean(axis=0)])
    mean, square = np.mean(moments, axis=0)
    for row in examples.values():
        # Decoders of JPEG differ.
        np.testing.assert_allclose(row["channel_mean"], mean, atol=1e-3)
        np.testing.assert_allclose(row["channel_std"], np.sqrt(square - mean**2), atol=1e-3)


@pytest.fixture
def outside_of_an_analysis(monkeypatch):
    """Leaves out what only an analysis can compute: elsewhere each of tft's analyzers fails."""
    monkeypatch.setattr(preprocessing, "_channel_statistics", lambda encoded: {})


@pytest.mark.usefixtures("outside_of_an_analysis")
def test_preprocessing_chosen_short_side_is_taken_as_it_is(raw_images):
    inputs = {
        "image_bytes": tf.constant([[image.image_bytes] for image in raw_images]),
        "key": tf.constant([[image.key] for image in raw_images]),
    }
    outputs = preprocessing_fn(inputs, {"short_side_px": 12})
    assert {min(pixels(png).shape[:2]) for png in outputs["image"].numpy()} == {12}


@pytest.mark.usefixtures("outside_of_an_analysis")
def test_preprocessing_sparse_and_dense_columns_give_the_same(raw_images):
    images = [image.image_bytes for image in raw_images[-3:]]
    keys = [image.key for image in raw_images[-3:]]
    dense = {"image_bytes": tf.constant(images)[:, None], "key": tf.constant(keys)[:, None]}
    sparse = {name: tf.sparse.from_dense(column) for name, column in dense.items()}
    ours, theirs = (preprocessing_fn(inputs, {"short_side_px": 16}) for inputs in (dense, sparse))
    assert ours["image"].numpy().tolist() == theirs["image"].numpy().tolist()
    assert ours["key"].numpy().tolist() == theirs["key"].numpy().tolist() == [key.encode() for key in keys]
