"""The stages of SimCLR: pretraining without labels, and what is trained on top of it or beside it (`classifiers`)."""

import os
from dataclasses import dataclass

import tensorflow as tf
import tf_keras

from trainer import (
    checkpoints,
    data,
    distributed,
    export,
    heads,
    loop,
    losses,
    norms,
    resnet,
    sources,
    views,
    weights,
)
from trainer.classifiers import Classifier, distill, train_classifier
from trainer.config import PretrainConfig
from trainer.distributed import building
from trainer.gradient_cache import GradientCache
from trainer.history import History
from trainer.memory import Memory
from trainer.watching import watcher_of

__all__ = [
    "Classifier",
    "Pretrained",
    "building",
    "distill",
    "pretrain",
    "pretrain_step",
    "train_classifier",
]

_DEFAULT_BATCH_SIZE = 256
_MODEL_SEED_STRIDE = 1_000  # keeps the head's seeds apart from the encoder's


@dataclass(frozen=True)
class Pretrained:
    """What pretraining leaves: the encoder f, the head g that v1 throws away, the curves, and what was watched."""

    encoder: tf_keras.Model
    head: tf_keras.Model
    history: History
    diagnostics: History
    batch_size: int


def pretrain(
    config: PretrainConfig,
    files: sources.ExampleFiles,
    *,
    seed: int,
    checkpoint_dir: str | None = None,
    log_dir: str | None = None,
    report: loop.Report | None = None,
    labeled: sources.ExampleFiles | None = None,
    initial_weights: str | None = None,
) -> Pretrained:
    """SimCLR: two views of each image, one forward pass, NT-Xent (arXiv 2002.05709, algorithm 1).

    Args:
        config: of the method.
        files: unlabeled examples.
        seed: of weights, order and views.
        checkpoint_dir: where the training is saved and taken up again after a kill.
        log_dir: of TensorBoard.
        report: receives the progress.
        labeled: images with labels that the diagnostics look at; None: those of `files`, without labels.
        initial_weights: folder of the encoder and head to start from, of an earlier pretraining; None: random.

    Raises:
        ValueError: the batch is larger than the set, or checkpoints are of another training.
    """
    batch_size = config.batch_size or min(_DEFAULT_BATCH_SIZE, files.count)
    size_px = config.augment.crop.size_px or files.short_side_px
    steps_per_epoch = max(files.count // batch_size, 1)
    total_steps = steps_per_epoch * config.epochs
    with building(config.compute) as strategy, sources.naming_unreadable(files):
        encoder = resnet.build_encoder(config.encoder, size_px=size_px, seed=seed)
        head = heads.projection_head(config.head, input_dim=encoder.output_shape[-1], seed=seed + _MODEL_SEED_STRIDE)
        origin = {}
        if initial_weights is not None:
            export.load_pretrained(initial_weights, encoder=encoder, head=head)
            # Checkpoints of a training from another start are another training's.
            origin = {"initial_weights": [weights.digest(encoder), weights.digest(head)]}
        variables = encoder.trainable_variables + head.trainable_variables
        optimizer = loop.build_optimizer(
            config.optimizer,
            variables,
            batch_size=batch_size,
            total_steps=total_steps,
            steps_per_epoch=steps_per_epoch,
        )
        memory = Memory(encoder, head, config=config.memory) if config.memory.queue_size else None
        step = pretrain_step(config, encoder, head, optimizer, seed=seed, memory=memory)
        watcher = watcher_of(
            config,
            encoder,
            head,
            files,
            labeled=labeled,
            batch_size=batch_size,
            total_steps=total_steps,
            seed=seed,
            path=checkpoint_dir and os.path.join(checkpoint_dir, "diagnostics.csv"),
        )
        history = loop.train(
            step,
            data.remaining_batches(files, batch_size=batch_size, total_steps=total_steps, seed=seed),
            trackables={"encoder": encoder, "head": head} | ({"memory": memory} if memory else {}),
            optimizer=optimizer,
            total_steps=total_steps,
            steps_per_epoch=steps_per_epoch,
            batch_size=batch_size,
            jit_compile=distributed.jit_of(config.compute, strategy),
            saving=checkpoints.saving_of(
                checkpoint_dir, config, seed=seed, images=sources.fingerprint(files), **origin
            ),
            log_dir=log_dir,
            report=report,
            watch=watcher,
        )
    return Pretrained(encoder, head, history, watcher.history(total_steps), batch_size)


def pretrain_step(
    config: PretrainConfig,
    encoder: tf_keras.Model,
    head: tf_keras.Model,
    optimizer: tf_keras.optimizers.Optimizer,
    *,
    seed: int,
    memory: Memory | None = None,
) -> loop.Step:
    """One replica's step of pretraining: its share of a batch → its parts of loss, accuracy and gradient norm.

    Args:
        config: of the method; with a gradient cache the batch goes through in chunks.
        encoder: f.
        head: g.
        optimizer: built on the trainable variables of both.
        seed: of the views.
        memory: of further negatives.
    """
    variables = encoder.trainable_variables + head.trainable_variables
    make_views = views.pair_maker(config.augment, size_px=encoder.input_shape[1], seed=seed)
    chunks = _chunks_of(config, encoder, head)
    slow_chunks = _chunks_of(config, memory.encoder, memory.head) if memory else None

    def contrast(z_a: tf.Tensor, z_b: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return losses.nt_xent_and_accuracy(
            z_a,
            z_b,
            temperature=config.temperature,
            queue=memory.queue if memory else None,
            block_rows=config.similarity_block_rows,
        )

    def whole(batch: loop.Batch) -> tuple[tuple[tf.Tensor, ...], list[tf.Tensor], tuple[tf.Tensor, ...] | None]:
        x = tf.concat(make_views(batch), axis=0)
        if config.encoder.norm == "local_batch":
            # Statistics of a replica's own pairs would tell the network which images belong together.
            x = norms.shuffle_samples(x, seed=seed, step=optimizer.iterations)
        with tf.GradientTape() as tape:
            z = head(encoder(x, training=True), training=True)
            if config.encoder.norm == "local_batch":
                z = norms.unshuffle_samples(z, seed=seed, step=optimizer.iterations)
            results = contrast(*tf.split(z, 2))
        return results, tape.gradient(results[0], variables), memory and tf.split(memory.project(x), 2)

    def in_chunks(batch: loop.Batch) -> tuple[tuple[tf.Tensor, ...], list[tf.Tensor], tuple[tf.Tensor, ...] | None]:
        def chunk_of_views(first: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return make_views({name: chunks.chunk(tensor, first) for name, tensor in batch.items()})

        n_images = batch["image"].shape[0]
        results, gradients = chunks.gradients(chunk_of_views, n_images, contrast)
        return results, gradients, memory and slow_chunks.project(chunk_of_views, n_images)

    def step(batch: loop.Batch) -> dict[str, tf.Tensor]:
        (loss, accuracy), gradients, remembered = in_chunks(batch) if chunks else whole(batch)
        gradients = [distributed.sum_over_replicas(gradient) for gradient in gradients]
        optimizer.apply_gradients(zip(gradients, variables, strict=True), skip_gradients_aggregation=True)
        if memory:
            memory.follow(encoder, head)
            memory.enqueue(*remembered)
        norm = distributed.part_of_mean(tf.linalg.global_norm(gradients))
        return {"loss": loss, "contrastive_accuracy": accuracy, "gradient_norm": norm}

    return step


def _chunks_of(config: PretrainConfig, encoder: tf_keras.Model, head: tf_keras.Model) -> GradientCache | None:
    cache = config.gradient_cache
    if cache.chunk_size is None:
        return None
    return GradientCache(encoder, head, chunk_size=cache.chunk_size, batch_norm=cache.batch_norm)
