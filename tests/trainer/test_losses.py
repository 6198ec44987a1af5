import math

import numpy as np
import pytest
import tensorflow as tf
from nt_xent_oracle import finite_difference_gradient, nt_xent

from trainer import losses

GENERATOR = np.random.default_rng(0)
Z_A = GENERATOR.normal(size=[5, 4])
Z_B = Z_A + 0.5 * GENERATOR.normal(size=[5, 4])


def loss_of(z_a, z_b, temperature):
    return float(losses.nt_xent(tf.constant(z_a), tf.constant(z_b), temperature=temperature))


@pytest.mark.parametrize("temperature", [0.07, 0.1, 0.5, 1.0, 7.0])
def test_nt_xent_random_projections_equal_the_oracle(temperature):
    assert loss_of(Z_A, Z_B, temperature) == pytest.approx(nt_xent(Z_A, Z_B, temperature), rel=1e-5)


@pytest.mark.parametrize("n_pairs", [1, 2, 8])
def test_nt_xent_equal_projections_is_log_of_the_other_rows(n_pairs):
    z = np.tile([[0.3, -2.0, 1.0]], [n_pairs, 1])
    assert loss_of(z, z, 0.1) == pytest.approx(math.log(2 * n_pairs - 1), abs=1e-5)


def test_nt_xent_swapped_views_is_unchanged():
    assert loss_of(Z_A, Z_B, 0.2) == pytest.approx(loss_of(Z_B, Z_A, 0.2), rel=1e-6)


def test_nt_xent_scaled_projections_is_unchanged():
    scales = np.linspace(0.1, 30, 5)[:, None]
    assert loss_of(scales * Z_A, Z_B, 0.2) == pytest.approx(loss_of(Z_A, Z_B, 0.2), rel=1e-5)


def test_nt_xent_shuffled_pairs_is_larger_than_matched_pairs():
    assert loss_of(Z_A, Z_B[::-1], 0.2) > loss_of(Z_A, Z_B, 0.2) + 0.1


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent_gradient_equals_finite_differences_of_the_oracle(temperature):
    z_a, z_b = tf.constant(Z_A, tf.float32), tf.constant(Z_B, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch([z_a, z_b])
        loss = losses.nt_xent(z_a, z_b, temperature=temperature)
    gradient_a, gradient_b = tape.gradient(loss, [z_a, z_b])
    expected_a = finite_difference_gradient(lambda z: nt_xent(z, Z_B, temperature), Z_A)
    expected_b = finite_difference_gradient(lambda z: nt_xent(Z_A, z, temperature), Z_B)
    np.testing.assert_allclose(gradient_a, expected_a, atol=2e-5)
    np.testing.assert_allclose(gradient_b, expected_b, atol=2e-5)


def test_nt_xent_half_precision_projections_give_a_float32_loss():
    loss = losses.nt_xent(tf.constant(Z_A, tf.bfloat16), tf.constant(Z_B, tf.bfloat16), temperature=0.1)
    assert loss.dtype == tf.float32
    rounded = (np.float64(tf.cast(tf.constant(z, tf.bfloat16), tf.float32)) for z in (Z_A, Z_B))
    assert float(loss) == pytest.approx(nt_xent(*rounded, 0.1), rel=1e-5)


def test_nt_xent_zero_projection_stays_finite():
    z = tf.zeros([2, 3])
    with tf.GradientTape() as tape:
        tape.watch(z)
        loss = losses.nt_xent(z, z, temperature=0.1)
    assert np.isfinite(float(loss)) and np.isfinite(tape.gradient(loss, z)).all()


def test_contrastive_accuracy_counts_rows_nearest_to_their_positive():
    # Rows 0 and 1 of both views find their partners; the second pair's views point away from one another.
    z_a = tf.constant([[1.0, 0, 0], [0, 1, 0]])
    z_b = tf.constant([[1.0, 0.1, 0], [0, -1, 0]])
    _, accuracy = losses.nt_xent_and_accuracy(z_a, z_b, temperature=0.1)
    assert float(accuracy) == 0.5
    _, perfect = losses.nt_xent_and_accuracy(z_a, z_a, temperature=0.1)
    assert float(perfect) == 1.0
