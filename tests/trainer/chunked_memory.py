"""Memory that steps take while they run, in chunks of 32 images and whole; in a process of its own, MiB as JSON."""

import ctypes
import functools
import json
import sys
from pathlib import Path

import tensorflow as tf
import tf_keras
from tf_keras import layers

from trainer import gradient_cache, losses

CHUNK_SIZE, SIZE_PX, N_CONVOLUTIONS = 32, 16, 2
LOSS = functools.partial(losses.nt_xent_and_accuracy, temperature=0.5, block_rows=64)


def networks():
    x = images = layers.Input([SIZE_PX, SIZE_PX, 3])
    for _ in range(N_CONVOLUTIONS):
        x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(16, 3, padding="same")(x)))
    h = layers.Input([16])
    return tf_keras.Model(images, layers.GlobalAveragePooling2D()(x)), tf_keras.Model(h, layers.Dense(8)(h))


def views_of(images):
    x = tf.cast(images, tf.float32) / 255
    return x, tf.reverse(x, [2])


def mib(name):
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 2**10


def memory_of(step, batch_size):
    """Peak over what the process held before, in a call after the one that traced."""
    images = tf.zeros([batch_size, SIZE_PX, SIZE_PX, 3], tf.uint8)
    step(images)
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what earlier calls freed must not serve this one unseen
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = mib("VmRSS")
    step(images)
    return mib("VmHWM") - before


def main():
    encoder, head = networks()
    cache = gradient_cache.GradientCache(encoder, head, chunk_size=CHUNK_SIZE)

    @tf.function(autograph=False)
    def cached(images):
        return cache.gradients(lambda first: views_of(cache.chunk(images, first)), images.shape[0], LOSS)

    @tf.function(autograph=False)
    def full(images):
        with tf.GradientTape() as tape:
            z = head(encoder(tf.concat(views_of(images), axis=0), training=True), training=True)
            results = LOSS(*tf.split(z, 2))
        return results, tape.gradient(results[0], encoder.trainable_variables + head.trainable_variables)

    return {
        "cached 64": memory_of(cached, 64),
        "cached 512": memory_of(cached, 512),
        "full 512": memory_of(full, 512),
    }


if __name__ == "__main__":
    json.dump(main(), sys.stdout)
