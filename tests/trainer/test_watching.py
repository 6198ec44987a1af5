import csv
import logging
import math

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from example_files import random_images, write_examples

from trainer import data, diagnostics, heads, resnet, views, watching
from trainer.config import AugmentConfig, DiagnosticsConfig, EncoderConfig, HeadConfig, PretrainConfig

RANDOM = np.random.default_rng(0)
CROP = AugmentConfig(jitter_strength=0.0, grayscale_probability=0.0)

pytestmark = pytest.mark.usefixtures("compile_views_once")


def pairs(z):
    """Each row twice, as two views that are alike."""
    return np.concatenate([z, z])


def healthy(n_images=6, label=-1):
    """z orthogonal between images and equal between views, h likewise."""
    return diagnostics.Look(h=pairs(np.eye(n_images)), z=pairs(np.eye(n_images)), label=np.full([n_images], label))


def collapsed(n_images=6):
    h = np.ones([2 * n_images, 3]) + 1e-4 * RANDOM.normal(size=[2 * n_images, 3])
    return diagnostics.Look(h=h, z=h, label=np.full([n_images], -1))


def watched(look=healthy, *, steps=range(1, 11), losses=lambda step: 0.1, log_every=1, **settings):
    defaults = {"every_steps": 4, "total_steps": 10, "n_candidates": 7}
    watcher = watching.Watcher(look, **defaults | settings)
    for step in steps:
        logged = step % log_every == 0 or step == 10
        watcher(step, {"step": step, "loss": losses(step), "gradient_norm": 2.0} if logged else None)
    return watcher


def rows_of(path):
    with open(path) as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def test_watcher_looks_when_due_and_at_the_end_and_writes_the_csv(tmp_path, caplog):
    watched(path=str(tmp_path / "diagnostics.csv"))
    rows = rows_of(tmp_path / "diagnostics.csv")
    assert [row["step"] for row in rows] == [4, 8, 10]
    assert rows[0] == pytest.approx({"step": 4, "loss": 0.1, "gradient_norm": 2, **diagnostics.measure(healthy())})
    assert not caplog.records


@pytest.mark.parametrize("log_every", [1, 3])
def test_watcher_of_a_resumed_training_leaves_no_gap_and_no_double(tmp_path, log_every):
    path = str(tmp_path / "diagnostics.csv")
    whole = watched(path=path, log_every=log_every).history(10).rows
    assert [row["step"] for row in whole] == ([4, 8, 10] if log_every == 1 else [6, 9, 10])
    for killed_after, goes_on_from in [(9, 6), (8, 8), (4, 3), (10, 10)]:
        watched(path=path, steps=range(1, killed_after + 1), log_every=log_every)
        resumed = watched(path=path, steps=range(goes_on_from + 1, 11), log_every=log_every)
        assert resumed.history(10).rows == whole == rows_of(path)
    watched(path=path, steps=range(1, 5))  # a training from the start owes nothing to an older one
    assert [row["step"] for row in rows_of(path)] == [4]


def test_watcher_that_is_given_labels_on_the_way_leaves_the_rows_before_without_accuracy(tmp_path):
    path = str(tmp_path / "diagnostics.csv")
    watched(path=path, steps=range(1, 6))
    watched(lambda: healthy(label=0), path=path, steps=range(6, 11))
    assert [row.get("knn_accuracy") for row in rows_of(path)] == [None, 1, 1]
    assert rows_of(path) == watched(path=path, steps=[]).history(10).rows


def test_watcher_writes_tensorboard_events(tmp_path):
    with tf.summary.create_file_writer(str(tmp_path)).as_default():
        watched(every_steps=10)
    tags = {
        (event.step, value.tag)
        for path in tmp_path.iterdir()
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    }
    assert tags == {(10, f"diagnostics/{name}") for name in diagnostics.measure(healthy())}


def test_watcher_warns_of_collapse_with_the_step(caplog):
    watched(collapsed, every_steps=10)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and "step 10: the representation has collapsed" in record.getMessage()


def test_watcher_without_looks_still_warns_of_a_stuck_loss_once_and_not_early(caplog):
    watched(every_steps=0, losses=lambda step: math.log(7))
    (record,) = caplog.records
    assert "step 2: the loss is 1.946 and log(7) = 1.946 is that of guessing" in record.getMessage()


@pytest.mark.parametrize("queue_size", [20, 1000])
def test_watcher_counts_the_negatives_that_a_queue_holds_by_then(caplog, queue_size):
    # 8 rows a step: before step 3 the queue has got 16, before step 4 it has 20 or 24.
    candidates = {3: 7 + 16, 4: 7 + min(queue_size, 24)}
    for step, n_candidates in candidates.items():
        watched(steps=[step], every_steps=0, losses=lambda _, n=n_candidates: math.log(n), queue_size=queue_size)
    assert [record.args[0] for record in caplog.records] == [3, 4]


def test_watcher_loss_that_fell_in_time_is_no_warning(caplog):
    watched(every_steps=0, losses=lambda step: math.log(7) if step < 2 else 1.0)
    assert not caplog.records


def test_embedder_looks_at_the_same_views_and_changes_nothing(tmp_path):
    files = write_examples(tmp_path / "examples", random_images(7), labels=[0, 1, 2, 3, 4, 5, 6])
    encoder = tf_keras.Sequential(
        [tf_keras.layers.Input([8, 8, 3]), tf_keras.layers.BatchNormalization(), tf_keras.layers.Flatten()]
    )
    head = tf_keras.Sequential([tf_keras.layers.Input([192]), tf_keras.layers.Dense(4)])

    def opposite(batch):
        image = tf.cast(batch["image"], tf.float32)
        return image, -image

    batches = data.training_batches(files, batch_size=3, epochs=1, seed=0)
    before = [weight.copy() for weight in encoder.get_weights()]
    embed = watching.embedder(encoder, head, opposite, batches)
    look, again = embed(), embed()
    assert look.h.shape == (12, 192) and look.z.shape == (12, 4) and look.label.shape == (6,)
    np.testing.assert_array_equal(look.h, again.h)
    # moving mean 0 and variance 1: the first views are the images, in the labels' order, the second their negatives
    scale = np.float32(1 / math.sqrt(1 + 1e-3))
    pixels = random_images(7)[look.label].reshape(6, 192).astype(np.float32)
    np.testing.assert_allclose(look.h, np.concatenate([pixels, -pixels]) * scale, rtol=1e-5)
    np.testing.assert_allclose(look.z, head(look.h), rtol=1e-4, atol=1e-3)
    for value, other in zip(encoder.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, other)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    labels = [index % 3 for index in range(70)]
    return write_examples(tmp_path_factory.mktemp("watched") / "examples", random_images(70), labels=labels)


@pytest.fixture(scope="module")
def networks():
    encoder = resnet.build_encoder(EncoderConfig(stage_blocks=(1,), width=4), size_px=8, seed=0)
    return encoder, heads.projection_head(HeadConfig(output_dim=3), input_dim=4, seed=0)


def look_of(files, networks, *, images=256, labeled=None):
    config = PretrainConfig(augment=CROP, diagnostics=DiagnosticsConfig(images=images))
    watcher = watching.watcher_of(config, *networks, files, labeled=labeled, batch_size=8, total_steps=5, seed=3)
    return watcher._look()


@pytest.mark.parametrize(("images", "shown"), [(5, 5), (256, 64)])
def test_watcher_looks_at_so_many_images_and_at_no_label_of_the_training(files, networks, images, shown):
    look = look_of(files, networks, images=images)
    assert look.h.shape == (2 * shown, 4) and look.z.shape == (2 * shown, 3)
    assert look.label.tolist() == [-1] * shown


def test_watcher_looks_at_the_views_that_the_training_makes(files, networks):
    batch = next(iter(data.training_batches(files, batch_size=5, epochs=1, seed=3)))
    seen = tf.concat(views.pair_maker(CROP, size_px=8, seed=3, compiled=False)(batch), axis=0)
    np.testing.assert_allclose(look_of(files, networks, images=5).h, networks[0](seen, training=False), atol=1e-6)


def test_watcher_looks_at_the_labelled_images_where_there_are_any(files, networks, tmp_path):
    labeled = write_examples(tmp_path / "labeled", random_images(6, seed=1), labels=[0, 1, 2, 3, 4, 5])
    look = look_of(files, networks, labeled=labeled)
    assert sorted(look.label.tolist()) == [0, 1, 2, 3, 4, 5] and look.h.shape == (12, 4)


def test_watcher_of_a_set_that_is_not_held_fills_no_shuffle_buffer(files, networks, monkeypatch):
    monkeypatch.setitem(vars(files), "held", files)  # as a set that is too large for memory
    monkeypatch.delattr(tf.data.Dataset, "shuffle")
    assert look_of(files, networks, images=5).h.shape == (10, 4)


def test_watcher_of_one_image_is_refused(networks, tmp_path):
    one = write_examples(tmp_path / "one", random_images(1), labels=[0])
    with pytest.raises(ValueError, match="1 images to watch: give 2 or more"):
        look_of(None, networks, labeled=one)
