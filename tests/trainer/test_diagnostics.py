import csv
import logging
import math

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from example_files import random_images, write_examples

from trainer import data, diagnostics

RANDOM = np.random.default_rng(0)


def pairs(z):
    """Each row twice, as two views that are alike."""
    return np.concatenate([z, z])


def test_alignment_of_identical_views_is_zero_and_of_opposite_ones_four():
    z = RANDOM.normal(size=[5, 3])
    assert diagnostics.alignment(pairs(z)) == pytest.approx(0, abs=1e-12)
    assert diagnostics.alignment(np.concatenate([z, -2 * z])) == pytest.approx(4)
    assert diagnostics.alignment(np.eye(4)) == pytest.approx(2)


def test_uniformity_of_equal_rows_is_zero_and_of_orthonormal_ones_minus_four():
    assert diagnostics.uniformity(pairs(np.ones([4, 3]))) == pytest.approx(0, abs=1e-12)
    assert diagnostics.uniformity(pairs(3 * np.eye(6))) == pytest.approx(-4)
    # one opposite pair: ‖x − y‖² = 4
    assert diagnostics.uniformity(pairs(np.array([[1.0, 0], [-1, 0]]))) == pytest.approx(-8)


def test_effective_rank_closed_forms():
    one = np.outer(RANDOM.normal(size=9), RANDOM.normal(size=5))
    assert diagnostics.effective_rank(one) == pytest.approx(1)
    assert diagnostics.effective_rank(np.zeros([4, 3])) == 1
    whitened, _ = np.linalg.qr(RANDOM.normal(size=[50, 7]))
    assert diagnostics.effective_rank(whitened.astype(np.float32)) == pytest.approx(7, rel=1e-5)
    # shares 3/4 and 1/4
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert diagnostics.effective_rank(np.diag([3.0, 1.0])) == pytest.approx(math.exp(entropy))


def test_spread_of_equal_directions_is_zero_and_of_balanced_ones_one():
    assert diagnostics.spread(np.array([[1.0, 2], [2, 4], [10, 20]])) == pytest.approx(0, abs=1e-9)
    assert diagnostics.spread(np.array([[1.0, 0], [-7, 0], [0, 2], [0, -1]])) == pytest.approx(1)


def test_similarities_are_those_of_the_positive_and_the_nearest_negative():
    degrees = np.radians([0, 90, 10, 150])  # views of image 0 at 0° and 10°, of image 1 at 90° and 150°
    z = np.stack([np.cos(degrees), np.sin(degrees)], axis=1) * [[1], [2], [3], [4]]
    positive, negative = diagnostics.similarities(z)
    cos = [math.cos(math.radians(angle)) for angle in (10, 60, 90, 80, 80, 140)]
    assert positive == pytest.approx((cos[0] + cos[1]) / 2)
    assert negative == pytest.approx((cos[2] + cos[3] + cos[4] + cos[5]) / 4)


def test_knn_accuracy_leaves_the_image_itself_out():
    h = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
    assert diagnostics.knn_accuracy(h, np.array([0, 0, 1, 1])) == 1
    assert diagnostics.knn_accuracy(h, np.array([0, 1, 0, 1])) == 0
    assert diagnostics.knn_accuracy(h, np.array([0, 0, 0, 1])) == 0.5


def healthy(n_images=6, label=-1):
    """z orthogonal between images and equal between views, h likewise."""
    return diagnostics.Look(h=pairs(np.eye(n_images)), z=pairs(np.eye(n_images)), label=np.full([n_images], label))


def collapsed(n_images=6):
    h = np.ones([2 * n_images, 3]) + 1e-4 * RANDOM.normal(size=[2 * n_images, 3])
    return diagnostics.Look(h=h, z=h, label=np.full([n_images], -1))


def test_measure_gives_knn_only_where_there_are_labels():
    metrics = diagnostics.measure(healthy())
    assert metrics == pytest.approx(
        {
            "alignment": 0,
            "uniformity": -4,
            "spread": math.sqrt(5 / 6),
            "positive_similarity": 1,
            "hardest_negative_similarity": 0,
            "effective_rank": 6,
        },
        abs=1e-9,
    )
    assert diagnostics.measure(healthy(label=2))["knn_accuracy"] == 1


def test_collapse_warning_names_the_signs_and_a_remedy():
    words = diagnostics.collapse_warning(diagnostics.measure(collapsed()))
    assert "effective rank of 1.0" in words and "from their mean" in words and "lower the learning rate" in words
    assert diagnostics.collapse_warning(diagnostics.measure(healthy())) is None


def test_collapse_warning_is_given_where_h_is_not_finite():
    broken = diagnostics.Look(h=np.full([12, 3], np.nan), z=healthy().z, label=healthy().label)
    assert "effective rank of nan" in diagnostics.collapse_warning(diagnostics.measure(broken))


@pytest.mark.parametrize(
    ("loss", "is_stuck"), [(1.0, True), (0.9905, True), (1.0095, True), (0.98, False), (1.02, False)]
)
def test_stuck_warning_is_given_within_one_percent_of_guessing(loss, is_stuck):
    words = diagnostics.stuck_warning(loss * math.log(511), n_candidates=511)
    assert bool(words) == is_stuck
    if is_stuck:
        assert "log(511) = 6.236 is that of guessing" in words


def watched(look=healthy, *, steps=range(1, 11), losses=lambda step: 0.1, **settings):
    defaults = {"every_steps": 4, "total_steps": 10, "n_candidates": 7}
    watcher = diagnostics.Watcher(look, **defaults | settings)
    for step in steps:
        watcher(step, {"loss": losses(step)})


def rows_of(path):
    with open(path) as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def test_watcher_looks_when_due_and_at_the_end_and_writes_the_csv(tmp_path, caplog):
    watched(path=str(tmp_path / "diagnostics.csv"))
    rows = rows_of(tmp_path / "diagnostics.csv")
    assert [row["step"] for row in rows] == [4, 8, 10]
    assert rows[0] == pytest.approx({"step": 4, **diagnostics.measure(healthy())})
    assert not caplog.records


def test_watcher_of_a_resumed_training_leaves_no_gap_and_no_double(tmp_path):
    path = str(tmp_path / "diagnostics.csv")
    watched(path=path, steps=range(1, 9))
    watched(path=path, steps=range(6, 11))
    assert [row["step"] for row in rows_of(path)] == [4, 8, 10]
    watched(path=path, steps=range(1, 5))  # a training from the start owes nothing to an older one
    assert [row["step"] for row in rows_of(path)] == [4]


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


def test_watcher_loss_that_fell_in_time_is_no_warning(caplog):
    watched(every_steps=0, losses=lambda step: math.log(7) if step < 2 else 1.0)
    assert not caplog.records


def test_embedder_looks_at_the_same_views_and_changes_nothing(tmp_path):
    files = write_examples(tmp_path / "examples", random_images(7), labels=[0, 1, 2, 3, 4, 5, 6])
    encoder = tf_keras.Sequential(
        [tf_keras.layers.Input([8, 8, 3]), tf_keras.layers.BatchNormalization(), tf_keras.layers.Flatten()]
    )
    head = tf_keras.Sequential([tf_keras.layers.Input([192]), tf_keras.layers.Dense(4)])

    def views(image, key, epoch, size):
        image = tf.cast(image, tf.float32)
        return image, -image

    batches = data.training_batches(files, batch_size=3, epochs=1, seed=0)
    before = [weight.copy() for weight in encoder.get_weights()]
    embed = diagnostics.embedder(encoder, head, views, batches)
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
