"""A training on two replicas that SIGTERM stops after step 3 and that goes on; argv: its directory, its checkpoints'.

The replicas are two logical devices, or with TF_CONFIG two processes, of which only the second hears SIGTERM.
"""

import json
import os
import signal
import sys
from pathlib import Path

import tensorflow as tf
from example_files import random_images, write_examples

from trainer import checkpoints, data, loop
from trainer.config import OptimizerConfig

TOTAL_STEPS, BATCH_SIZE, EPOCHS = 6, 4, 3


def main(directory, checkpoint_dir):
    if "TF_CONFIG" in os.environ:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        hears = strategy.cluster_resolver.task_id == 1
    else:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
        strategy, hears = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), True
    with strategy.scope():
        preempted = run(directory, checkpoint_dir, sigterm_after=3 if hears else None)
        resumed = run(directory, checkpoint_dir)
    Path(directory, "result.json").write_text(json.dumps({"preempted": preempted, "resumed": resumed}))


def run(directory, checkpoint_dir, *, sigterm_after=None):
    """Final weights, losses, and the keys that each replica saw at each step; where it was stopped, the last step."""
    files = write_examples(os.path.join(directory, "examples"), random_images(11, height=2, width=2))
    kernel = tf.Variable(tf.random.stateless_normal([12, 1], [1, 2], dtype=tf.float64))
    config = OptimizerConfig(name="sgd", learning_rate=0.1, decay="constant")
    optimizer = loop.build_optimizer(config, [kernel], batch_size=BATCH_SIZE, total_steps=TOTAL_STEPS)
    seen = {}

    def see(replica, step, keys):
        seen.setdefault(int(step), {})[int(replica)] = keys.numpy().tolist()

    def step(batch):
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        tf.py_function(see, [replica, optimizer.iterations, batch["key"]], [])
        x = tf.cast(tf.reshape(batch["image"], [-1, 12]), tf.float64) / 255
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(x @ kernel - 1.0)) / BATCH_SIZE
        optimizer.apply_gradients([(tape.gradient(loss, kernel), kernel)])
        return {"loss": loss}

    def report(progress):
        if progress.step == sigterm_after:
            os.kill(os.getpid(), signal.SIGTERM)

    history, stopped_after = None, None
    try:
        history = loop.train(
            step,
            lambda first_step, context: data.training_batches(
                files, batch_size=BATCH_SIZE, epochs=EPOCHS, seed=7, first_step=first_step, context=context
            ),
            trackables={"kernel": kernel},
            optimizer=optimizer,
            total_steps=TOTAL_STEPS,
            steps_per_epoch=2,
            batch_size=BATCH_SIZE,
            saving=checkpoints.Saving(checkpoint_dir, every_steps=100),
            report=report,
        )
    except loop.PreemptedError as preemption:
        stopped_after = preemption.done
    return {
        "weights": kernel.numpy().ravel().tolist(),
        "losses": [row["loss"] for row in history.rows] if history else None,
        "seen": [[seen[step][replica] for replica in sorted(seen[step])] for step in sorted(seen)],
        "stopped_after": stopped_after,
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
