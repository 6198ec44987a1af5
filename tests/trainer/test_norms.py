import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import replicated_norms
import tensorflow as tf
import tf_keras

from trainer import norms

KINDS = ("batch", "local_batch", "layer", "group")


def maps(channels, *, seed=0):
    shape = [4, 3, 5, channels]
    generator = np.random.default_rng(seed)
    return generator.normal(2.0, 3.0, shape) * generator.uniform(0.5, 2.0, channels) + generator.normal(size=channels)


def normalised(x, axes):
    return (x - x.mean(axis=axes, keepdims=True)) / np.sqrt(x.var(axis=axes, keepdims=True) + 1e-5)


def with_affine(layer, channels):
    """Gives γ and β values that differ from channel to channel."""
    layer.build([None, None, None, channels])
    gamma, beta = np.linspace(0.5, 2, channels), np.linspace(-1, 1, channels)
    layer.gamma.assign(gamma)
    layer.beta.assign(beta)
    return gamma, beta


@pytest.mark.parametrize("kind", ["batch", "local_batch"])
def test_batch_norm_on_one_replica_normalises_by_the_batch_and_remembers_a_tenth(kind):
    layer = norms.norm(kind, name="n")
    gamma, beta = with_affine(layer, 6)
    x = maps(6)
    y = layer(tf.constant(x, tf.float32), training=True)
    np.testing.assert_allclose(y, normalised(x, (0, 1, 2)) * gamma + beta, atol=1e-4)
    np.testing.assert_allclose(layer.moving_mean, 0.1 * x.mean(axis=(0, 1, 2)), rtol=1e-5)
    unbiased = x.var(axis=(0, 1, 2), ddof=1)
    np.testing.assert_allclose(layer.moving_variance, 0.9 + 0.1 * unbiased, rtol=1e-5)
    assert layer.fused and not layer.synchronized


@pytest.mark.parametrize("kind", ["batch", "local_batch"])
def test_batch_norm_in_inference_uses_the_moving_moments_and_keeps_them(kind):
    layer = norms.norm(kind, name="n")
    gamma, beta = with_affine(layer, 3)
    mean, variance = np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0])
    layer.moving_mean.assign(mean)
    layer.moving_variance.assign(variance)
    x = maps(3)
    y = layer(tf.constant(x, tf.float32), training=False)
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(layer.moving_mean, mean)
    np.testing.assert_array_equal(layer.moving_variance, variance)


@pytest.mark.parametrize(("channels", "groups"), [(64, 32), (48, 24), (6, 6), (34, 17)])
def test_group_norm_normalises_each_group_of_channels_of_each_image(channels, groups):
    layer = norms.norm("group", name="n")
    gamma, beta = with_affine(layer, channels)
    x = maps(channels)
    grouped = normalised(x.reshape([4, 15, groups, channels // groups]), (1, 3)).reshape(x.shape)
    np.testing.assert_allclose(layer(tf.constant(x, tf.float32)), grouped * gamma + beta, atol=1e-4)
    assert layer.groups == groups


def test_layer_norm_normalises_each_image_over_all_its_channels_and_pixels():
    layer = norms.norm("layer", name="n")
    gamma, beta = with_affine(layer, 6)
    x = maps(6)
    expected = normalised(x, (1, 2, 3)) * gamma + beta
    for training in (True, False):
        np.testing.assert_allclose(layer(tf.constant(x, tf.float32), training=training), expected, atol=1e-4)


def test_layer_norm_of_vectors_normalises_each_row():
    layer = norms.norm("layer", name="n")
    x = maps(6)[:, 0, 0]
    np.testing.assert_allclose(layer(tf.constant(x, tf.float32)), normalised(x, (1,)), atol=1e-5)


def test_group_norm_in_bfloat16_keeps_its_moments_and_parameters_in_float32():
    layer = norms.GroupNorm(2, name="n", dtype="mixed_bfloat16")
    # bfloat16 holds 1000 to within 4: moments in it would lose the variance altogether.
    x = tf.cast(tf.constant(1000 + 8 * maps(4), tf.float32), tf.bfloat16)
    y = layer(x)
    assert y.dtype == tf.bfloat16 and layer.gamma.dtype == tf.float32
    grouped = normalised(tf.cast(x, tf.float64).numpy().reshape([4, 15, 2, 2]), (1, 3)).reshape(x.shape)
    np.testing.assert_allclose(tf.cast(y, tf.float32), grouped, atol=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_norm_starts_at_one_and_zero_and_the_last_of_a_block_at_zero(kind):
    for last, gamma in ((False, 1.0), (True, 0.0)):
        layer = norms.norm(kind, last=last, name="n")
        layer.build([None, None, None, 3])
        assert layer.gamma.numpy().tolist() == [gamma] * 3 and layer.beta.numpy().tolist() == [0.0] * 3


@pytest.mark.parametrize("kind", KINDS)
def test_norm_is_rebuilt_from_its_config(kind):
    layer = norms.norm(kind, last=True, name="n")
    again = tf_keras.layers.deserialize(tf_keras.layers.serialize(layer))
    assert type(again) is type(layer) and again.get_config() == layer.get_config()
    again.build([None, None, None, 4])
    assert again.name == "n" and not again.gamma.numpy().any()


def test_norm_of_unknown_kind_is_an_error():
    with pytest.raises(ValueError, match=r"'instance'.*'group'"):
        norms.norm("instance", name="n")


def test_shuffle_on_one_replica_hands_the_samples_through():
    x = tf.constant([3.0, 1.0, 2.0])
    assert norms.shuffle_samples(x, seed=0, step=1) is x
    assert norms.unshuffle_samples(x, seed=0, step=1) is x


def test_sample_order_is_a_permutation_of_seed_and_step_alone():
    order = norms.sample_order(64, seed=1, step=2).numpy()
    assert sorted(order) == list(range(64)) and order.tolist() != list(range(64))
    compiled = tf.function(lambda step: norms.sample_order(64, seed=1, step=step), jit_compile=True)
    np.testing.assert_array_equal(compiled(tf.constant(2)), order)
    for seed, step in ((1, 3), (2, 2)):
        assert (norms.sample_order(64, seed=seed, step=step).numpy() != order).any()


@pytest.fixture(scope="module", params=[2, 4])
def replicated(request, tmp_path_factory):
    """(replicas, what `replicated_norms` saw on as many)."""
    root, path = Path(norms.__file__).parents[1], tmp_path_factory.mktemp("replicated") / "results.json"
    done = subprocess.run(
        [sys.executable, replicated_norms.__file__, str(request.param), str(path)],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return request.param, json.loads(path.read_text())


def normalised_with_gradient(x, weight):
    """Batch norm of `x` in one piece, and the gradient of Σ y·weight for x, both by the formula."""
    axes = (0, 1, 2)
    deviation = np.sqrt(x.var(axis=axes) + 1e-5)
    y = (x - x.mean(axis=axes)) / deviation
    gradient = (weight - weight.mean(axis=axes) - y * (weight * y).mean(axis=axes)) / deviation
    return y, gradient


def test_batch_norm_moments_are_those_of_the_global_batch(replicated):
    replicas, results = replicated
    x = replicated_norms.samples(replicas).astype(np.float64)
    seen = results["batch"]
    y, gradient = normalised_with_gradient(x, replicated_norms.upstream(replicas))
    assert seen["synchronized"]
    np.testing.assert_allclose(seen["y"], y, atol=1e-4)
    np.testing.assert_allclose(seen["gradient"], gradient, atol=1e-4)
    np.testing.assert_allclose(seen["moving_mean"], 0.1 * x.mean(axis=(0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(seen["moving_variance"], 0.9 + 0.1 * x.var(axis=(0, 1, 2)), rtol=1e-4)


def test_local_batch_norm_moments_are_those_of_each_shuffled_share(replicated):
    replicas, results = replicated
    x = replicated_norms.samples(replicas).astype(np.float64)
    seen, weight = results["local_batch"], replicated_norms.upstream(replicas)
    order = norms.sample_order(len(x), seed=replicated_norms.SEED, step=replicated_norms.STEP).numpy()
    y, gradient = np.empty_like(x), np.empty_like(x)
    for share in np.split(order, replicas):
        y[share], gradient[share] = normalised_with_gradient(x[share], weight[share])
    assert not seen["synchronized"]
    np.testing.assert_allclose(seen["y"], y, atol=1e-4)
    np.testing.assert_allclose(seen["gradient"], gradient, atol=1e-4)


def test_shuffled_samples_change_replicas_and_all_come_back(replicated):
    replicas, results = replicated
    own = np.arange(replicas * replicated_norms.SHARE)
    dealt = np.array(results["shuffle"]["dealt"])
    assert sorted(dealt) == own.tolist()
    assert (dealt // replicated_norms.SHARE != own // replicated_norms.SHARE).any()
    np.testing.assert_array_equal(results["shuffle"]["restored"], own)
