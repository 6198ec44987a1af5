import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import chunked_memory
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

from trainer import gradient_cache, lars, losses

N_IMAGES, SIZE_PX = 8, 6
GENERATOR = np.random.default_rng(2)
COLOURS = GENERATOR.uniform(size=[N_IMAGES, 1, 1, 3])  # without, all images would have nearly the same z
VIEWS = [COLOURS + 0.3 * GENERATOR.normal(size=[N_IMAGES, SIZE_PX, SIZE_PX, 3]) for _ in range(2)]
NORMS = {
    "batch": functools.partial(layers.BatchNormalization, momentum=0.9),
    "layer": functools.partial(layers.LayerNormalization, axis=[1, 2, 3]),
    "group": functools.partial(layers.GroupNormalization, groups=2),
}
LOSS = functools.partial(losses.nt_xent_and_accuracy, temperature=0.5)


@pytest.fixture
def float64():
    tf_keras.backend.set_floatx("float64")
    yield
    tf_keras.backend.set_floatx("float32")


def conv(x, filters, kernel, norm, *, stride=1, relu=True):
    x = layers.Conv2D(filters, kernel, strides=stride, padding="same", use_bias=False)(x)
    x = NORMS[norm]()(x)
    return layers.ReLU()(x) if relu else x


def bottleneck(x, filters, norm, stride):
    shortcut = conv(x, 4 * filters, 1, norm, stride=stride, relu=False)
    y = conv(conv(x, filters, 1, norm), filters, 3, norm, stride=stride)
    return layers.ReLU()(layers.Add()([shortcut, conv(y, 4 * filters, 1, norm, relu=False)]))


def networks(norm="batch", *, n_stages=0):
    """A stem, bottleneck stages and a head, γ and β away from 1 and 0; the same weights at each call."""
    tf_keras.utils.set_random_seed(0)
    images = layers.Input([SIZE_PX, SIZE_PX, 3])
    x = conv(images, 4, 3, norm)
    for stage in range(n_stages):
        x = bottleneck(x, 2, norm, 1 + stage)
    encoder = tf_keras.Model(images, layers.GlobalAveragePooling2D()(x))
    h = layers.Input(encoder.output_shape[1:])
    z = layers.Dense(8, use_bias=False)(h)
    if norm == "batch":
        z = layers.BatchNormalization(momentum=0.9)(z)
    z = layers.Dense(3, use_bias=False)(layers.ReLU()(z))
    head = tf_keras.Model(h, layers.BatchNormalization(momentum=0.9)(z) if norm == "batch" else z)
    generator = np.random.default_rng(1)
    for variable in encoder.trainable_variables + head.trainable_variables:
        if variable.shape.rank == 1:
            variable.assign_add(0.3 * generator.normal(size=variable.shape))
    return encoder, head


def step_results(encoder, head, run, *, compiled=False):
    """Loss, accuracy, gradients, then every variable after a step with LARS."""
    variables = encoder.trainable_variables + head.trainable_variables
    optimizer = lars.LARS(2.0, weight_decay=0.1, exclude=[v for v in variables if v.shape.rank == 1])
    optimizer.build(variables)

    @tf.function(autograph=False, jit_compile=compiled)
    def step():
        results, gradients = run()
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return [*results, *gradients]

    return [value.numpy() for value in step()] + [v.numpy() for v in encoder.variables + head.variables]


def full_step(norm="batch", *, n_stages=0):
    return _full_step(norm, n_stages, tf_keras.backend.floatx())


@functools.cache  # for each type of float that Keras is set to
def _full_step(norm, n_stages, floatx):
    encoder, head = networks(norm, n_stages=n_stages)

    def run():
        with tf.GradientTape() as tape:
            z = head(encoder(tf.concat(VIEWS, axis=0), training=True), training=True)
            results = LOSS(*tf.split(z, 2))
        return results, tape.gradient(results[0], encoder.trainable_variables + head.trainable_variables)

    results = step_results(encoder, head, run)
    assert max(np.abs(gradient).max() for gradient in results[2 : 2 + len(encoder.trainable_variables)]) > 0.01
    return results


def cached_step(norm="batch", *, chunk_size, batch_norm="exact", n_stages=0, loss=LOSS, compiled=False):
    encoder, head = networks(norm, n_stages=n_stages)
    cache = gradient_cache.GradientCache(encoder, head, chunk_size=chunk_size, batch_norm=batch_norm)
    views = [tf.constant(view, tf_keras.backend.floatx()) for view in VIEWS]

    def run():
        return cache.gradients(lambda first: tuple(cache.chunk(view, first) for view in views), N_IMAGES, loss)

    return step_results(encoder, head, run, compiled=compiled)


def assert_same(found, expected, rtol=1e-9, atol=1e-11):
    for value, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=rtol, atol=atol)


@pytest.mark.parametrize(("n_stages", "chunk_size"), [(2, 2), (0, 1), (0, 4), (0, 8)])
def test_cached_step_with_exact_batch_norm_equals_the_full_step(float64, n_stages, chunk_size):
    found = cached_step(n_stages=n_stages, chunk_size=chunk_size)
    expected = full_step(n_stages=n_stages)
    n_norms = 1 + 4 * n_stages + 2
    n_results, n_variables = 2 + 3 * n_norms, 5 * n_norms  # loss, accuracy and gradients, then the variables
    assert len(found) == n_results + n_variables
    assert_same(found[:n_results], expected[:n_results])
    # Keras moves the moving statistics by a float32 0.1, in float64 too.
    assert_same(found[n_results:], expected[n_results:], rtol=1e-7, atol=1e-9)


def test_cached_step_in_float32_moves_the_moving_statistics_as_the_fused_kernel_does():
    assert_same(cached_step(chunk_size=4), full_step(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("norm", "batch_norm"), [("layer", "exact"), ("group", "per_chunk")])
def test_cached_step_without_batch_norm_equals_the_full_step(float64, norm, batch_norm):
    assert_same(cached_step(norm, chunk_size=2, batch_norm=batch_norm), full_step(norm))


def test_cached_step_per_chunk_is_another_step_than_the_full_one(float64):
    found, expected = cached_step(chunk_size=4, batch_norm="per_chunk"), full_step()
    assert abs(found[0] - expected[0]) > 1e-3
    assert max(np.abs(x - y).max() for x, y in zip(found[2:11], expected[2:11], strict=True)) > 1e-2


def test_cached_step_per_chunk_of_the_whole_batch_equals_the_full_step(float64):
    assert_same(cached_step(chunk_size=N_IMAGES, batch_norm="per_chunk"), full_step(), rtol=1e-7, atol=1e-9)


def test_accumulated_losses_of_chunks_are_not_the_step_of_the_batch(float64):
    # The classic mistake: each chunk's own loss, averaged. With layer norm nothing but the negatives is missing.
    def loss_of_chunks(z_a, z_b):
        parts = [LOSS(a, b) for a, b in zip(tf.split(z_a, 4), tf.split(z_b, 4), strict=True)]
        return tuple(tf.add_n(values) / 4 for values in zip(*parts, strict=True))

    accumulated = cached_step("layer", chunk_size=2, loss=loss_of_chunks)
    expected = full_step("layer")
    assert expected[0] - accumulated[0] > 0.5, "fewer negatives, a smaller loss"
    differences = [np.abs(x - y).max() for x, y in zip(accumulated[2:], expected[2:], strict=True)]
    assert max(differences) > 1e-2


def test_cached_step_compiled_by_xla_equals_the_full_step(float64):
    assert_same(cached_step(chunk_size=2, compiled=True), full_step(), rtol=1e-7, atol=1e-9)


def test_project_gives_the_full_batchs_z_and_changes_no_variable(float64):
    encoder, head = networks()
    cache = gradient_cache.GradientCache(encoder, head, chunk_size=4)
    before = [variable.numpy() for variable in encoder.variables + head.variables]
    z = cache.project(lambda first: tuple(cache.chunk(tf.constant(view), first) for view in VIEWS), N_IMAGES)
    for variable, value in zip(encoder.variables + head.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    expected = head(encoder(tf.concat(VIEWS, axis=0), training=True), training=True)
    np.testing.assert_allclose(tf.concat(z, axis=0), expected, rtol=1e-10)


def test_exact_sweeps_are_as_many_as_batch_norms_on_the_longest_path():
    cache = gradient_cache.GradientCache(*networks(n_stages=2), chunk_size=4)
    assert cache.sweeps == 1 + 2 * 3 + 2  # the shortcuts' norms lie beside others
    assert gradient_cache.GradientCache(*networks("layer"), chunk_size=4).sweeps == 0
    assert gradient_cache.GradientCache(*networks(), chunk_size=4, batch_norm="per_chunk").sweeps == 0


def test_network_stays_as_it_was_when_a_cache_is_made():
    encoder, head = networks()
    gradient_cache.GradientCache(encoder, head, chunk_size=4)
    for layer in encoder.layers + head.layers:
        assert len(layer.inbound_nodes) == 1 and layer.output is not None


def test_chunk_that_does_not_divide_the_batch_is_refused():
    cache = gradient_cache.GradientCache(*networks("layer"), chunk_size=3)
    with pytest.raises(ValueError, match="chunk_size 3 must divide the 8 images"):
        cache.project(lambda first: None, 8)


def test_hidden_batch_norm_is_refused():
    inner = tf_keras.Sequential([layers.Input([4]), layers.BatchNormalization()], name="inner")
    x = layers.Input([4])
    encoder = tf_keras.Model(x, inner(x))
    with pytest.raises(ValueError, match="layer 'inner' holds a batch norm inside"):
        gradient_cache.GradientCache(encoder, networks()[1], chunk_size=4)


def test_batch_norm_over_another_axis_is_refused():
    x = layers.Input([4, 4, 3])
    encoder = tf_keras.Model(x, layers.BatchNormalization(axis=1, name="rows")(x))
    with pytest.raises(ValueError, match="batch norm 'rows' has axis"):
        gradient_cache.GradientCache(encoder, networks()[1], chunk_size=4)


def test_frozen_batch_norm_keeps_its_moving_statistics(float64):
    encoder, head = networks()
    for layer in encoder.layers:
        layer.trainable = False
    cache = gradient_cache.GradientCache(encoder, head, chunk_size=4)
    views = [tf.constant(view) for view in VIEWS]
    z = cache.project(lambda first: tuple(cache.chunk(view, first) for view in views), N_IMAGES)
    expected = head(encoder(tf.concat(views, axis=0), training=False), training=True)
    np.testing.assert_allclose(tf.concat(z, axis=0), expected, rtol=1e-10)
    assert cache.sweeps == 2


# oneDNN's allocator and malloc's heap keep what the first call took, so that the second one's peak would say nothing.
EVERY_TENSOR_ITS_OWN_PAGES = {"TF_ENABLE_ONEDNN_OPTS": "0", "MALLOC_MMAP_THRESHOLD_": "65536"}


def test_memory_of_a_step_grows_with_the_chunk_and_not_with_the_batch():
    process = subprocess.run(
        [sys.executable, chunked_memory.__file__],
        cwd=Path(gradient_cache.__file__).parents[1],
        env={**os.environ, "PYTHONPATH": ".", **EVERY_TENSOR_ITS_OWN_PAGES},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    mib = json.loads(process.stdout)
    # Eight times the batch: what grows with it is its images, z and the loss on it, not the activations, which would
    # make it five times. By a fifth the peaks differ from one machine to another, as threads hold tensors at once.
    assert mib["cached 512"] < 2 * mib["cached 64"], mib
    assert mib["cached 512"] < 0.4 * mib["full 512"], mib
