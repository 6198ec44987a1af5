import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from trainer import selective_kernels

FILTERS = 5
GENERATOR = np.random.default_rng(0)
BRANCHES = GENERATOR.normal(size=[2, 3, 4, 2 * FILTERS]).astype(np.float32)
LOGITS = 3 * GENERATOR.normal(size=[2, 1, 1, 2 * FILTERS]).astype(np.float32)


def softmax_over_branches():
    first, second = np.exp(LOGITS[..., :FILTERS]), np.exp(LOGITS[..., FILTERS:])
    return np.stack([first, second]) / (first + second)


def test_branch_weights_are_a_softmax_over_the_branches_of_each_channel():
    weights = selective_kernels.branch_weights(tf.constant(LOGITS))
    np.testing.assert_allclose(tf.reduce_sum(weights, axis=0), np.ones([2, 1, 1, FILTERS]), rtol=1e-6)
    np.testing.assert_allclose(weights, softmax_over_branches(), rtol=1e-5)


def test_branch_weights_of_bfloat16_logits_are_float32():
    assert selective_kernels.branch_weights(tf.cast(LOGITS, tf.bfloat16)).dtype == tf.float32


def test_pooled_branches_are_the_spatial_mean_of_their_sum():
    expected = (BRANCHES[..., :FILTERS] + BRANCHES[..., FILTERS:]).mean(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(selective_kernels.PooledBranches()(BRANCHES), expected, atol=1e-6)


def test_selected_branches_are_the_sum_of_the_weighted_branches():
    first, second = softmax_over_branches()
    expected = first * BRANCHES[..., :FILTERS] + second * BRANCHES[..., FILTERS:]
    selected = selective_kernels.SelectedBranches()([BRANCHES, LOGITS])
    np.testing.assert_allclose(selected, expected, atol=1e-6)


@pytest.mark.parametrize("layer_class", [selective_kernels.PooledBranches, selective_kernels.SelectedBranches])
def test_layer_is_rebuilt_from_its_config(layer_class):
    layer = layer_class(name="n")
    again = tf_keras.layers.deserialize(tf_keras.layers.serialize(layer))
    assert type(again) is layer_class and again.get_config() == layer.get_config()
