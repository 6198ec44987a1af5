"""The trainer's side: one task in a process of its own. `python -m benchmarks.ours '{"task": ...}'`."""

import itertools
import os
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from unittest import mock

import numpy as np
import tensorflow as tf

from benchmarks import measure, pictures
from benchmarks.measure import Figures
from trainer import data, heads, loop, losses, resnet, sources, stages, views
from trainer.config import (
    AugmentConfig,
    ComputeConfig,
    CropConfig,
    DiagnosticsConfig,
    EncoderConfig,
    GradientCacheConfig,
    OptimizerConfig,
    PretrainConfig,
)

_SEED = 0
_TEMPERATURE = 0.5


def augmentation(*, batch: int, size_px: int, repeats: int) -> Figures:
    """Seconds for two views of a batch of decoded images, as the pretraining step makes them."""
    images = pictures.small(batch) if size_px == pictures.SMALL_PX else pictures.photos(batch)
    make_views = views.pair_maker(_augment(size_px), size_px=size_px, seed=_SEED)
    stored = {
        "image": tf.constant(images),
        "key": tf.range(batch, dtype=tf.int64),
        "epoch": tf.zeros([batch], tf.int64),
        "size": tf.tile([images.shape[1:3]], [batch, 1]),
    }
    return {"seconds": measure.seconds_of(lambda: make_views(stored)[1].numpy(), repeats=repeats)}


def step(*, batch: int, stage_blocks: list[int], width: int, precision: str, repeats: int) -> Figures:
    """Seconds of a pretraining step in the trainer's own loop: views, both forward, NT-Xent, backward, LARS."""
    config = _pretraining(
        batch=batch, stage_blocks=stage_blocks, width=width, size_px=pictures.SMALL_PX, precision=precision
    )
    return _steps(config, pictures.small(batch), steps=repeats + 1)


def _steps(config: PretrainConfig, images: np.ndarray, *, steps: int) -> Figures:
    """Seconds of steps on the same images without the first, which traces; memory from building the network on."""
    batch = {
        "image": images,
        "key": tf.range(len(images), dtype=tf.int64),
        "epoch": tf.zeros([len(images)], tf.int64),
        "size": tf.tile([images.shape[1:3]], [len(images), 1]),
    }
    batches, ends, peak = tf.data.Dataset.from_tensors(batch).repeat(), [], measure.PeakMemory()
    with stages.building(config.compute):
        encoder = resnet.build_encoder(config.encoder, size_px=images.shape[1], seed=_SEED)
        head = heads.projection_head(config.head, input_dim=encoder.output_shape[-1], seed=_SEED)
        variables = encoder.trainable_variables + head.trainable_variables
        optimizer = loop.build_optimizer(
            config.optimizer, variables, batch_size=len(images), total_steps=steps, steps_per_epoch=steps
        )
        loop.train(
            stages.pretrain_step(config, encoder, head, optimizer, seed=_SEED),
            lambda *_: batches,
            trackables={},
            optimizer=optimizer,
            total_steps=steps,
            steps_per_epoch=steps,
            batch_size=len(images),
            watch=lambda *_: ends.append(time.perf_counter()),
        )
    seconds = median(end - start for start, end in itertools.pairwise(ends))
    return {"seconds": seconds, "mib": peak.added_mib()}


def files(
    *, folder: str, batch: int, stage_blocks: list[int], width: int, size_px: int, epochs: int, held: bool
) -> Figures:
    """Pretraining from a folder of image files.

    Args:
        folder: of the files.
        batch: images a step.
        stage_blocks: of the network.
        width: of the first stage.
        size_px: side of the views.
        epochs: passes over the files; the clock runs from the end of the first step.
        held: whether decoded images may be held in memory, as the trainer does with a small set; else each epoch
            decodes them anew.
    """
    config = _pretraining(batch=batch, stage_blocks=stage_blocks, width=width, size_px=size_px, epochs=epochs)
    with mock.patch.object(sources, "_MEMORY_BYTES", sources._MEMORY_BYTES if held else 0):
        last = stages.pretrain(config, data.open_folder(folder), seed=_SEED).history.rows[-1]
    return {"seconds": batch / last["images_per_s"], "waits": last["input_wait_share"]}


def loss(*, rows: int, dim: int, block_rows: int | None = None, naive: bool = False) -> Figures:
    """Seconds and memory of NT-Xent and its gradient."""
    z_a, z_b = tf.unstack(tf.random.stateless_normal([2, rows // 2, dim], seed=[_SEED, 0]))

    @tf.function(autograph=False)
    def loss_and_gradients(z_a: tf.Tensor, z_b: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            tape.watch([z_a, z_b])
            if naive:
                value = naive_nt_xent(z_a, z_b)
            else:
                value, _ = losses.nt_xent_and_accuracy(z_a, z_b, temperature=_TEMPERATURE, block_rows=block_rows)
        return value, tape.gradient(value, [z_a, z_b])

    return measure.seconds_and_mib(lambda: float(loss_and_gradients(z_a, z_b)[0]))


def naive_nt_xent(z_a: tf.Tensor, z_b: tf.Tensor) -> tf.Tensor:
    """Equation 1 of arXiv 2002.05709 word for word: every matrix is there as a whole."""
    z = tf.math.l2_normalize(tf.concat([z_a, z_b], axis=0), axis=1)
    n = tf.shape(z_a)[0]
    exponentials = tf.exp(tf.matmul(z, z, transpose_b=True) / _TEMPERATURE) * (1.0 - tf.eye(2 * n))
    positives = tf.roll(tf.eye(2 * n), shift=n, axis=1)
    numerators = tf.reduce_sum(exponentials * positives, axis=1)
    return -tf.reduce_mean(tf.math.log(numerators / tf.reduce_sum(exponentials, axis=1)))


def cached(*, batch: int, chunk: int | None, stage_blocks: list[int], width: int, block_rows: int) -> Figures:
    """Seconds and memory of a pretraining step whose batch goes through in chunks, or at once."""
    config = _pretraining(batch=batch, stage_blocks=stage_blocks, width=width, size_px=pictures.SMALL_PX)
    cache = GradientCacheConfig(chunk_size=chunk, batch_norm="per_chunk")
    config = config.model_copy(update={"gradient_cache": cache, "similarity_block_rows": block_rows})
    images = pictures.small(min(batch, 1000))
    images = images[[row % len(images) for row in range(batch)]]
    return _steps(config, images, steps=2)


def machine(*, side: int, mib: int, repeats: int) -> Figures:
    """What the cores can do: a float32 product of square matrices, and a copy by a thread a core."""
    x = tf.random.stateless_normal([side, side], seed=[_SEED, 0])
    product = measure.best_seconds_of(lambda: tf.matmul(x, x).numpy(), repeats=repeats)
    cores = len(os.sched_getaffinity(0))
    parts = [np.ones(mib * measure.MIB // cores, np.uint8) for _ in range(2 * cores)]
    with ThreadPoolExecutor(cores) as pool:
        copy = measure.best_seconds_of(
            lambda: list(pool.map(np.copyto, parts[:cores], parts[cores:])), repeats=repeats
        )
    return {"flop_per_s": 2 * side**3 / product, "bytes_per_s": 2 * mib * measure.MIB / copy}


def _pretraining(
    *, batch: int, stage_blocks: list[int], width: int, size_px: int, precision: str = "float32", epochs: int = 1
) -> PretrainConfig:
    return PretrainConfig(
        encoder=EncoderConfig(stage_blocks=tuple(stage_blocks), width=width, stem="small"),
        augment=_augment(size_px),
        temperature=_TEMPERATURE,
        batch_size=batch,
        epochs=epochs,
        optimizer=OptimizerConfig(learning_rate=0.3, weight_decay=1e-6),
        compute=ComputeConfig(precision=precision),
        diagnostics=DiagnosticsConfig(every_steps=0),  # lightly has none
    )


def _augment(size_px: int) -> AugmentConfig:
    """As the papers have it for small images and for photographs."""
    is_small = size_px == pictures.SMALL_PX
    return AugmentConfig(
        crop=CropConfig(size_px=size_px, min_area=0.08),
        jitter_strength=0.5 if is_small else 1.0,
        blur_probability=0.0 if is_small else 0.5,
    )


TASKS = {function.__name__: function for function in (augmentation, step, files, loss, cached, machine)}

if __name__ == "__main__":
    measure.answer(TASKS)
