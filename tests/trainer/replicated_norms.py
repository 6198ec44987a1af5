"""What norms and the shuffle of samples do on several replicas, in a process of its own: logical devices come first.

argv: the number of replicas, one a process since collectives fix it, and the file that receives the arrays as JSON.
"""

import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from trainer import norms

SHARE, CHANNELS, SEED, STEP = 3, 5, 7, 11


def samples(replicas):
    """[n, 4, 4, C]: each share has moments of its own."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=[replicas * SHARE, 4, 4, CHANNELS])
    return (x + np.arange(len(x))[:, None, None, None]).astype(np.float32)


def upstream(replicas):
    """Of the gradients: a weight for each output."""
    return np.random.default_rng(1).normal(size=samples(replicas).shape).astype(np.float32)


def normalise(kind, strategy, replicas):
    """One training step of one norm: outputs, input gradients, moving moments, and whether it synchronizes."""
    with strategy.scope():
        layer = norms.norm(kind, name="norm")
        layer.build([None, 4, 4, CHANNELS])

    def step(x, weight):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = norms.shuffle_samples(x, seed=SEED, step=STEP) if kind == "local_batch" else x
            y = layer(y, training=True)
            y = norms.unshuffle_samples(y, seed=SEED, step=STEP) if kind == "local_batch" else y
            loss = tf.reduce_sum(y * weight)
        return y, tape.gradient(loss, x)

    y, gradient = run(strategy, step, samples(replicas), upstream(replicas))
    return {
        "y": y,
        "gradient": gradient,
        "moving_mean": layer.moving_mean.numpy(),
        "moving_variance": layer.moving_variance.numpy(),
        "synchronized": layer.synchronized,
    }


def shuffle(strategy, replicas):
    """The numbers of the samples, dealt out and brought back."""

    def step(numbers):
        dealt = norms.shuffle_samples(numbers, seed=SEED, step=tf.constant(STEP))
        return dealt, norms.unshuffle_samples(dealt, seed=SEED, step=tf.constant(STEP))

    dealt, restored = run(strategy, step, np.arange(replicas * SHARE, dtype=np.float32))
    return {"dealt": dealt, "restored": restored}


def run(strategy, step, *arrays):
    """Runs a step on shares of the arrays; the outputs of all replicas in their order."""

    def share_of(array):
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(
                np.split(array, strategy.num_replicas_in_sync)[context.replica_id_in_sync_group]
            )
        )

    outputs = tf.function(lambda *shares: strategy.run(step, shares), autograph=False)(*map(share_of, arrays))
    return [np.concatenate([part.numpy() for part in strategy.experimental_local_results(out)]) for out in outputs]


def main(replicas, path):
    cpus = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpus[0], [tf.config.LogicalDeviceConfiguration()] * replicas)
    strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])
    results = {kind: normalise(kind, strategy, replicas) for kind in ("batch", "local_batch")}
    results["shuffle"] = shuffle(strategy, replicas)
    Path(path).write_text(json.dumps(results, default=lambda value: np.asarray(value).tolist()))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
