"""A training in a process of its own that a signal ends: argv is the checkpoint directory and the moment."""

import os
import signal
import sys

import numpy as np
import tensorflow as tf
import tf_keras

from trainer import checkpoints, loop
from trainer.config import OptimizerConfig

TOTAL_STEPS, STEPS_PER_EPOCH, BATCH_SIZE = 12, 4, 3
TIMES = {"images_per_s", "input_wait_share"}


class KilledError(Exception):
    pass


def kill_at(step):
    def hook(number):
        if number == step:
            raise KilledError

    return hook


def without_speed(rows):
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


def assert_same_training(ours, expected):
    for value, other in zip(ours[0], expected[0], strict=True):
        np.testing.assert_array_equal(value, other)
    assert without_speed(ours[1].rows) == without_speed(expected[1].rows)


def run(checkpoint_dir=None, *, optimizer="lars", identity=None, batch_hook=None, every_steps=4, kept=2, **settings):
    """Fits a small network with batch norm to batches that depend on their number alone; returns weights, history."""
    initializer = tf_keras.initializers.GlorotUniform(seed=1)
    model = tf_keras.Sequential(
        [
            tf_keras.layers.Input([4]),
            tf_keras.layers.Dense(5, use_bias=False, kernel_initializer=initializer),
            tf_keras.layers.BatchNormalization(),
            tf_keras.layers.Dense(1, kernel_initializer=tf_keras.initializers.GlorotUniform(seed=2)),
        ]
    )
    config = OptimizerConfig(name=optimizer, learning_rate=0.1, weight_decay=0.01, warmup_share=0.25)
    keras_optimizer = loop.build_optimizer(
        config, model.trainable_variables, batch_size=BATCH_SIZE, total_steps=TOTAL_STEPS
    )

    def step(batch):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(batch["x"], training=True) - batch["y"]))
        gradients = tape.gradient(loss, model.trainable_variables)
        keras_optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return {"loss": loss}

    def batches(first_step, _):
        for number in range(first_step, TOTAL_STEPS):
            if batch_hook:
                batch_hook(number)
            yield batch_of(number)

    history = loop.train(
        step,
        batches,
        trackables={"model": model},
        optimizer=keras_optimizer,
        total_steps=TOTAL_STEPS,
        steps_per_epoch=STEPS_PER_EPOCH,
        batch_size=BATCH_SIZE,
        saving=checkpoint_dir
        and checkpoints.Saving(checkpoint_dir, every_steps=every_steps, kept=kept, identity=identity),
        **settings,
    )
    state = [variable.numpy() for variable in [*model.variables, *keras_optimizer.variables]]
    return state, history


def batch_of(number):
    x = tf.random.stateless_normal([BATCH_SIZE, 4], [number, 0])
    return {"x": x, "y": tf.reduce_sum(x, axis=1, keepdims=True)}


def _die():
    os.kill(os.getpid(), signal.SIGKILL)


def main(checkpoint_dir, moment):
    if moment.isdecimal():
        run(checkpoint_dir, every_steps=1, batch_hook=lambda number: _die() if number == int(moment) else None)
    elif moment == "checkpoint written, not yet named":
        tf.train.CheckpointManager._record_state = lambda self: _die() if int(self._checkpoint.step) == 8 else None
        run(checkpoint_dir)
    raise SystemExit(f"{moment!r} did not come")


if __name__ == "__main__":
    main(*sys.argv[1:])
