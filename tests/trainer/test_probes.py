import knn_oracle
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from example_files import random_images, write_examples

from trainer import probes, resnet
from trainer.config import EncoderConfig, ProbeConfig


def embedded(labels, *, n_dims=6, noise=1.0, seed=0):
    """h around one centre a class; without noise the classes are apart."""
    centers = np.random.default_rng(7).normal(size=[10, n_dims])
    h = centers[labels] + noise * np.random.default_rng(seed).normal(size=[len(labels), n_dims])
    keys = np.array([f"image-{index}" for index in range(len(labels))])
    return probes.Embedded(h.astype(np.float32), np.array(labels), keys)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (5, 0.07), (20, 0.5), (1000, 1.0)])
def test_knn_probabilities_equal_brute_force(k, temperature):
    train, test = embedded([0, 1, 2, 3] * 8, seed=1), embedded([0, 1, 2, 3] * 4, seed=2)
    config = ProbeConfig(knn_k=k, knn_temperature=temperature)
    ours, settings = probes.knn_probabilities(config, train, test, n_classes=5)
    expected = knn_oracle.knn_probabilities(
        train.h, train.label, test.h, k=min(k, 32), temperature=temperature, n_classes=5
    )
    np.testing.assert_allclose(ours, expected, atol=2e-5)
    assert settings == {"k": min(k, 32), "temperature": temperature}


def test_knn_probabilities_smallest_temperature_stays_finite():
    train, test = embedded([0, 1], seed=1), embedded([0, 1], seed=2)
    ours, _ = probes.knn_probabilities(ProbeConfig(knn_temperature=0.001), train, test, n_classes=2)
    np.testing.assert_allclose(ours.sum(axis=1), 1)


def test_knn_probabilities_dead_representation_is_even():
    dead = probes.Embedded(np.zeros([4, 3], np.float32), np.array([0, 0, 1, 1]), np.array(["a", "b", "c", "d"]))
    ours, _ = probes.knn_probabilities(ProbeConfig(), dead, dead, n_classes=2)
    np.testing.assert_allclose(ours, 0.5)


def test_linear_probabilities_separable_classes_are_all_right():
    train, test = embedded([0, 1, 2] * 10, noise=0.05, seed=1), embedded([0, 1, 2] * 5, noise=0.05, seed=2)
    probabilities, settings = probes.linear_probabilities(ProbeConfig(), train, test, n_classes=3, seed=0)
    assert probes.top_accuracies(probabilities, test.label)["top1"] == 1.0
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert settings == {"C": 1.0, "folds": 4.0}  # nothing to be cautious about: the least regularisation


@pytest.mark.parametrize("method", ["logistic", "ridge"])
def test_linear_probabilities_of_one_class_are_refused(method):
    train = embedded([1] * 8, seed=1)
    with pytest.raises(ValueError, match="all 8 labelled images are of one class: a probe needs 2"):
        probes.linear_probabilities(ProbeConfig(method=method), train, train, n_classes=2, seed=0)


def test_linear_probabilities_noise_is_regularized():
    train, test = embedded([0, 1] * 15, noise=50.0, seed=1), embedded([0, 1] * 15, noise=50.0, seed=2)
    _, settings = probes.linear_probabilities(ProbeConfig(), train, test, n_classes=2, seed=0)
    assert settings["C"] <= 1e-2


def test_linear_probabilities_scale_of_h_does_not_matter():
    train, test = embedded([0, 1, 2] * 6, seed=1), embedded([0, 1, 2] * 2, seed=2)
    scale = np.float32(10.0) ** np.arange(-3, 3, dtype=np.float32)
    scaled = [probes.Embedded(part.h * scale, part.label, part.key) for part in (train, test)]
    plain, _ = probes.linear_probabilities(ProbeConfig(), train, test, n_classes=3, seed=0)
    other, _ = probes.linear_probabilities(ProbeConfig(), *scaled, n_classes=3, seed=0)
    np.testing.assert_allclose(other, plain, atol=1e-3)


def test_linear_probabilities_never_look_at_the_test_labels():
    train, test = embedded([0, 1, 2] * 6, seed=1), embedded([0, 1, 2] * 2, seed=2)
    blind = probes.Embedded(test.h, np.zeros_like(test.label), test.key)
    ours, settings = probes.linear_probabilities(ProbeConfig(), train, test, n_classes=3, seed=0)
    theirs, same_settings = probes.linear_probabilities(ProbeConfig(), train, blind, n_classes=3, seed=0)
    np.testing.assert_array_equal(ours, theirs)
    assert settings == same_settings


def test_linear_probabilities_one_image_of_a_class_takes_the_middle_candidate_without_folds():
    train, test = embedded([0, 1, 1, 2, 2], noise=0.05, seed=1), embedded([0, 1, 2], noise=0.05, seed=2)
    config = ProbeConfig(inverse_regularization=(10.0, 0.1, 1.0))
    probabilities, settings = probes.linear_probabilities(config, train, test, n_classes=3, seed=0)
    assert settings == {"C": 1.0, "folds": 1.0}
    assert probabilities.argmax(axis=1).tolist() == [0, 1, 2]


def test_linear_probabilities_two_images_of_a_class_are_cross_validated_in_two_folds():
    train = embedded([0, 0, 1, 1, 1, 1, 1], seed=1)
    _, settings = probes.linear_probabilities(ProbeConfig(), train, train, n_classes=2, seed=0)
    assert settings["folds"] == 2


def test_probes_class_missing_from_the_labelled_images_has_probability_zero():
    train, test = embedded([1, 3, 3, 1] * 3, noise=0.05, seed=1), embedded([1, 3, 0], noise=0.05, seed=2)
    for probabilities, _ in (
        probes.linear_probabilities(ProbeConfig(), train, test, n_classes=5, seed=0),
        probes.knn_probabilities(ProbeConfig(knn_k=3), train, test, n_classes=5),
    ):
        assert probabilities.shape == (3, 5)
        np.testing.assert_array_equal(probabilities[:, [0, 2, 4]], 0)
        assert probabilities[:2].argmax(axis=1).tolist() == [1, 3]


@pytest.mark.parametrize(
    ("probabilities", "labels", "top1", "top5"),
    [
        ([[0.1, 0.9], [0.8, 0.2]], [1, 1], 0.5, 1.0),
        ([[0.3, 0.2, 0.15, 0.12, 0.1, 0.08, 0.05]] * 3, [0, 4, 5], 1 / 3, 2 / 3),
        ([[0.05, 0.08, 0.1, 0.12, 0.15, 0.2, 0.3]], [0], 0.0, 0.0),
        ([[1.0]], [0], 1.0, 1.0),
    ],
)
def test_top_accuracies_hand_cases(probabilities, labels, top1, top5):
    assert probes.top_accuracies(np.array(probabilities), labels) == pytest.approx({"top1": top1, "top5": top5})


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    path = tmp_path_factory.mktemp("probes") / "examples.gz"
    return write_examples(path, random_images(7), labels=[0, 1, 2, 0, 1, 2, 0])


def test_embed_is_the_encoder_in_inference_mode_on_each_image(files):
    encoder = resnet.build_encoder(EncoderConfig(stage_blocks=(1,), width=4), size_px=8, seed=0)
    embedded = probes.embed(encoder, files, keep_images=True)
    np.testing.assert_array_equal(embedded.image, random_images(7))
    np.testing.assert_allclose(embedded.h, encoder(random_images(7) / np.float32(255), training=False), atol=1e-5)
    assert embedded.label.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert embedded.key.tolist() == [f"image-{index:03d}" for index in range(7)]
    assert probes.embed(encoder, files).image is None


def test_embed_leaves_every_variable_frozen_to_the_bit(files):
    encoder = resnet.build_encoder(EncoderConfig(stage_blocks=(1,), width=4), size_px=8, seed=0)
    before = [tf.io.serialize_tensor(variable).numpy() for variable in encoder.variables]
    probes.embed(encoder, files)
    assert [tf.io.serialize_tensor(variable).numpy() for variable in encoder.variables] == before


def test_embedded_take_keeps_rows_together(files):
    encoder = resnet.build_encoder(EncoderConfig(stage_blocks=(1,), width=4), size_px=8, seed=0)
    embedded = probes.embed(encoder, files, keep_images=True)
    taken = embedded.take(np.array([5, 1]))
    assert taken.key.tolist() == ["image-005", "image-001"] and taken.label.tolist() == [2, 1]
    np.testing.assert_array_equal(taken.h, embedded.h[[5, 1]])
    np.testing.assert_array_equal(taken.image, embedded.image[[5, 1]])


def test_classify_gives_the_softmax_of_the_logits(files):
    images = tf_keras.Input([8, 8, 3])
    h = tf_keras.layers.GlobalAveragePooling2D()(images)
    logits = tf_keras.layers.Rescaling(5.0)(h)
    scored = probes.classify(tf_keras.Model(images, [logits, h]), files)
    means = random_images(7).mean(axis=(1, 2)) / 255
    expected = np.exp(5 * means) / np.exp(5 * means).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(scored.probabilities, expected, atol=1e-5)
    assert scored.label.tolist() == [0, 1, 2, 0, 1, 2, 0] and len(scored.key) == 7


def test_ridge_is_the_closed_form_of_regressing_one_hot_labels():
    generator = np.random.default_rng(3)
    train, test = (
        probes.Embedded(
            generator.normal(size=[24, 5]).astype(np.float32), np.arange(24) % 3, np.arange(24).astype(str)
        )
        for _ in range(2)
    )
    config = ProbeConfig(method="ridge", inverse_regularization=(0.5,))
    ours, settings = probes.linear_probabilities(config, train, test, n_classes=4, seed=0)
    mean, std = train.h.mean(axis=0), train.h.std(axis=0)
    x, y = (train.h - mean) / std, np.eye(4)[train.label]
    weights = np.linalg.solve(x.T @ x + 2.0 * np.eye(5), x.T @ (y - y.mean(axis=0)))
    scores = (test.h - mean) / std @ weights + y.mean(axis=0)
    expected = np.exp(scores[:, :3]) / np.exp(scores[:, :3]).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(ours[:, :3], expected, rtol=1e-4)
    assert not ours[:, 3].any() and settings["C"] == pytest.approx(0.5)
