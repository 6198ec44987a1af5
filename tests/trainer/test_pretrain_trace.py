"""Three steps of pretraining, end to end, against the papers' formulas in NumPy; only the views are given."""

import numpy as np
import tensorflow as tf
import tf_keras
from oracles import lars_oracle, nt_xent_oracle

from trainer import augment, loop, stages
from trainer.config import AugmentConfig, CropConfig, OptimizerConfig, PretrainConfig

_SIDE, _N, _H, _D, _STEPS, _SEED = 4, 5, 6, 3, 3, 7
_OPTIMIZER = OptimizerConfig(learning_rate=400.0, scaling="linear", weight_decay=0.01, warmup_share=1 / 3)
_PEAK = 400.0 * _N / 256
_RATES = (_PEAK, _PEAK, _PEAK / 2)  # a warm-up of one step, then half a cosine over the two that are left
_CONFIG = PretrainConfig(
    augment=AugmentConfig(crop=CropConfig(size_px=_SIDE)), temperature=0.5, batch_size=_N, optimizer=_OPTIMIZER
)


def _batch(step):
    images = np.random.default_rng(step).integers(0, 256, (_N, _SIDE, _SIDE, 3), np.uint8)
    return {
        "image": tf.constant(images),
        "size": tf.fill([_N, 2], _SIDE),
        "key": tf.range(_N, dtype=tf.int64),
        "epoch": tf.fill([_N], tf.constant(step, tf.int64)),
    }


def _views(step):
    batch = _batch(step)
    views = augment.two_views(batch["image"], batch["key"], seed=_SEED, epoch=batch["epoch"], config=_CONFIG.augment)
    return np.concatenate([np.float64(view).reshape(_N, -1) for view in views])


def _linear(inputs, units, seed):
    initializer = tf_keras.initializers.RandomNormal(stddev=0.3, seed=seed)
    flat = tf_keras.layers.Flatten()(inputs)
    return tf_keras.Model(inputs, tf_keras.layers.Dense(units, use_bias=False, kernel_initializer=initializer)(flat))


def _loss_and_gradients(kernel, projection, x):
    """Of z = x·kernel·projection; NT-Xent's own slope by finite differences of the row by row oracle."""
    h = x @ kernel

    def loss(z):
        return nt_xent_oracle.nt_xent(z[:_N], z[_N:], _CONFIG.temperature)

    slope = nt_xent_oracle.finite_difference_gradient(loss, h @ projection)
    return loss(h @ projection), [x.T @ slope @ projection.T, h.T @ slope]


def _oracle_trace(weights):
    """Losses and weights of each step; LARS runs from the start each time, since its momentum holds all gradients."""
    start, now, gradients, losses, trace = weights, weights, [], [], []
    for step in range(_STEPS):
        loss, of_step = _loss_and_gradients(*now, _views(step))
        losses.append(loss)
        gradients.append(of_step)
        rates = _RATES[: step + 1]
        now = [
            lars_oracle.trace(first, of_variable, rates, decay=_OPTIMIZER.weight_decay)[-1]
            for first, of_variable in zip(start, zip(*gradients, strict=True), strict=True)
        ]
        trace.append(now)
    return losses, trace


def test_three_steps_of_pretraining_equal_the_papers_formulas():
    encoder = _linear(tf_keras.Input([_SIDE, _SIDE, 3]), _H, seed=1)
    head = _linear(tf_keras.Input([_H]), _D, seed=2)
    variables = encoder.trainable_variables + head.trainable_variables
    optimizer = loop.build_optimizer(_OPTIMIZER, variables, batch_size=_N, total_steps=_STEPS)
    losses, trace = _oracle_trace([np.float64(variable) for variable in variables])
    step = stages.pretrain_step(_CONFIG, encoder, head, optimizer, seed=_SEED)
    for number in range(_STEPS):
        before = [variable.numpy() for variable in variables]
        loss = step(_batch(number))["loss"]
        np.testing.assert_allclose(loss, losses[number], rtol=1e-5)
        for variable, earlier, expected in zip(variables, before, trace[number], strict=True):
            np.testing.assert_allclose(variable, expected, rtol=1e-5, atol=1e-5)
            assert np.abs(variable - earlier).max() > 1e-3  # a step that moved nothing would prove nothing
