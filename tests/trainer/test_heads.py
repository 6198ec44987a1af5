import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from trainer import heads
from trainer.config import HeadConfig

H = tf.constant(np.random.default_rng(0).normal(size=[6, 5]), tf.float32)


def forward(head, h):
    """The head in training mode, written out: Dense without bias, batch norm, ReLU between layers."""
    kernels = [layer.kernel.numpy() for layer in head.layers if isinstance(layer, tf_keras.layers.Dense)]
    for index, kernel in enumerate(kernels):
        h = h @ kernel
        h = (h - h.mean(axis=0)) / np.sqrt(h.var(axis=0) + 1e-5)
        if index < len(kernels) - 1:
            h = np.maximum(h, 0)
    return h


@pytest.mark.parametrize(
    ("config", "shapes"),
    [
        (HeadConfig(kind="linear", output_dim=3), [(5, 3)]),
        (HeadConfig(kind="nonlinear", layers=2, output_dim=3), [(5, 5), (5, 3)]),
        (HeadConfig(kind="nonlinear", layers=3, output_dim=3), [(5, 5), (5, 5), (5, 3)]),
    ],
)
def test_projection_head_is_dense_norm_and_relu_between_layers(config, shapes):
    head = heads.projection_head(config, input_dim=5, seed=0)
    denses = [layer for layer in head.layers if isinstance(layer, tf_keras.layers.Dense)]
    assert [tuple(layer.kernel.shape) for layer in denses] == shapes
    assert not any(layer.use_bias for layer in denses)
    np.testing.assert_allclose(head(H, training=True), forward(head, H.numpy()), atol=1e-5)


def test_projection_head_none_hands_h_through():
    head = heads.projection_head(HeadConfig(kind="none"), input_dim=5, seed=0)
    np.testing.assert_array_equal(head(H, training=True), H)
    assert head.trainable_variables == []


def test_projection_head_default_projects_to_128():
    assert heads.projection_head(HeadConfig(), input_dim=5, seed=0).output_shape == (None, 128)


def test_projection_head_seed_decides_its_kernels():
    one, same, other = (
        heads.projection_head(HeadConfig(layers=3), input_dim=5, seed=seed).get_layer("projection0").kernel.numpy()
        for seed in (4, 4, 5)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_projection_head_layers_of_one_shape_start_differently():
    head = heads.projection_head(HeadConfig(layers=3), input_dim=5, seed=0)
    first, second = (head.get_layer(name).kernel.numpy() for name in ("projection0", "projection1"))
    assert not np.isin(first, second).any()


HEAD_DEPTHS = [
    (HeadConfig(kind="none"), 0),
    (HeadConfig(kind="linear", output_dim=3), 1),
    (HeadConfig(layers=2, output_dim=3), 2),
    (HeadConfig(layers=3, output_dim=3), 3),
]


@pytest.mark.parametrize("config", [config for config, _ in HEAD_DEPTHS])
def test_first_layers_end_after_the_relu_and_the_last_without(config):
    head = heads.projection_head(config, input_dim=5, seed=0)
    kernels = [layer.kernel.numpy() for layer in head.layers if isinstance(layer, tf_keras.layers.Dense)]
    expected = H.numpy()
    for count in range(config.depth + 1):
        if count:
            expected = expected @ kernels[count - 1]
            expected = (expected - expected.mean(axis=0)) / np.sqrt(expected.var(axis=0) + 1e-5)
            expected = np.maximum(expected, 0) if count < config.depth else expected
        start = heads.first_layers(head, count)
        np.testing.assert_allclose(start(H, training=True), expected, atol=1e-5)
        assert len(start.trainable_variables) == 3 * count


def test_first_layers_are_the_heads_own():
    head = heads.projection_head(HeadConfig(layers=3), input_dim=5, seed=0)
    start = heads.first_layers(head, 1)
    start.trainable_variables[0].assign_add(tf.ones([5, 5]))
    np.testing.assert_array_equal(head.get_layer("projection0").kernel, start.trainable_variables[0])


@pytest.mark.parametrize(("config", "depth"), HEAD_DEPTHS)
def test_first_layers_more_than_the_head_has_are_an_error(config, depth):
    head = heads.projection_head(config, input_dim=5, seed=0)
    for count in (-1, depth + 1):
        with pytest.raises(ValueError, match=f"count {count} must be 0 … {depth}"):
            heads.first_layers(head, count)


def test_heads_under_mixed_precision_give_z_and_logits_in_float32():
    tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        projection = heads.projection_head(HeadConfig(output_dim=3), input_dim=5, seed=0)
        classification = heads.classification_head(4)
    finally:
        tf_keras.mixed_precision.set_global_policy(None)
    assert projection.get_layer("projection0").compute_dtype == "bfloat16"
    assert projection(H).dtype == tf.float32 and classification(tf.cast(H, tf.bfloat16)).dtype == tf.float32


def test_classification_head_starts_at_zero():
    head = heads.classification_head(4)
    np.testing.assert_array_equal(head(H), np.zeros([6, 4]))
    assert head.use_bias
