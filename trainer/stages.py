"""The stages of SimCLR: pretraining without labels, and what is trained on top of it or beside it."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import tensorflow as tf
import tf_keras

from trainer import checkpoints, data, distributed, heads, loop, losses, norms, resnet, sources, views
from trainer.config import (
    ClassifierConfig,
    ComputeConfig,
    DistillConfig,
    EncoderConfig,
    PretrainConfig,
)
from trainer.gradient_cache import GradientCache
from trainer.history import History
from trainer.memory import Memory
from trainer.watching import watcher_of
from trainer.weights import digest

_DEFAULT_BATCH_SIZE = 256
_MODEL_SEED_STRIDE = 1_000  # keeps the head's seeds apart from the encoder's
_AUTOGRAPH = False  # no function here branches on a tensor, and converting Keras' own code takes seconds


@contextmanager
def building(compute: ComputeConfig) -> Iterator[tf.distribute.Strategy]:
    """Where the variables of a training are made: on its devices, its layers in its precision."""
    strategy, precision = distributed.strategy_of(compute), tf_keras.mixed_precision.global_policy()
    if precision.name == tf_keras.backend.floatx():
        precision = None  # Keras' own default, which follows floatx; a policy of that name would not
    tf_keras.mixed_precision.set_global_policy(compute.precision)
    try:
        with strategy.scope():
            yield strategy
    finally:
        tf_keras.mixed_precision.set_global_policy(precision)


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
        variables = encoder.trainable_variables + head.trainable_variables
        optimizer = loop.build_optimizer(config.optimizer, variables, batch_size=batch_size, total_steps=total_steps)
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
            _batches_of(files, batch_size=batch_size, total_steps=total_steps, seed=seed),
            trackables={"encoder": encoder, "head": head} | ({"memory": memory} if memory else {}),
            optimizer=optimizer,
            total_steps=total_steps,
            steps_per_epoch=steps_per_epoch,
            batch_size=batch_size,
            jit_compile=distributed.jit_of(config.compute, strategy),
            saving=checkpoints.saving_of(
                checkpoint_dir,
                config,
                seed=seed,
                images=files.count,
                every_steps=config.checkpoint_every_steps,
                kept=config.kept_checkpoints,
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
            end = first + config.gradient_cache.chunk_size
            return make_views({name: tensor[first:end] for name, tensor in batch.items()})

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


@dataclass(frozen=True)
class Classifier:
    """A network from images to class logits, and how it came about.

    Attributes:
        model: float32 [B, S, S, 3] in [0, 1] → (logits [B, C], h [B, D]).
        history: of the training.
    """

    model: tf_keras.Model
    history: History


def train_classifier(
    config: ClassifierConfig,
    files: sources.ExampleFiles,
    *,
    seed: int,
    encoder_config: EncoderConfig,
    size_px: int,
    n_classes: int,
    pretrained: tf_keras.Model | None = None,
    pretrained_head: tf_keras.Model | None = None,
    frozen: bool = False,
    checkpoint_dir: str | None = None,
    report: loop.Report | None = None,
) -> Classifier:
    """Fine-tunes a pretrained encoder, trains the same network from scratch, or only a linear layer on a frozen one.

    Args:
        config: of the training.
        files: labelled examples.
        seed: of weights, order and crops.
        encoder_config: of the network.
        size_px: S, the side of the network's input.
        n_classes: C.
        pretrained: encoder whose weights are the start; None starts at random. It is not changed.
        pretrained_head: projection head whose first `config.head_layer` layers stay under the classifier (arXiv
            2006.10029, section 2.1); not changed.
        frozen: linear evaluation: the encoder runs in inference mode and stays as it is (arXiv 2002.05709, B.6).
        checkpoint_dir: where the training is saved and taken up again after a kill.
        report: receives the progress.

    Raises:
        ValueError: a head layer is wanted and there is no head.
    """
    if config.head_layer and pretrained_head is None:
        raise ValueError(f"head_layer {config.head_layer}: needs the projection head of the pretraining; set it to 0")
    batch_size = min(config.batch_size, files.count)
    steps_per_epoch = files.count // batch_size
    total_steps = config.total_steps(steps_per_epoch)
    with building(config.compute) as strategy, sources.naming_unreadable(files):
        encoder = resnet.build_encoder(encoder_config, size_px=size_px, seed=seed)
        if pretrained is not None:
            encoder.set_weights(pretrained.get_weights())
        kept = heads.kept_layers(pretrained_head, config.head_layer) if config.head_layer else None
        model = heads.classifier_on(encoder, n_classes=n_classes, kept=kept)
        head = model.get_layer(heads.LOGITS).trainable_variables
        variables = head if frozen else model.trainable_variables
        optimizer = loop.build_optimizer(
            config.optimizer,
            variables,
            batch_size=batch_size,
            total_steps=total_steps,
            supervised_head=head,
        )
        view = views.single_maker(config.augment, size_px=size_px, seed=seed)

        def step(batch: loop.Batch) -> dict[str, tf.Tensor]:
            images = view(batch)
            with tf.GradientTape() as tape:
                logits, _ = model(images, training=not frozen)
                loss = distributed.part_of_mean(_cross_entropy(logits, batch["label"]))
            optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
            return {"loss": loss, "accuracy": distributed.part_of_mean(_accuracy(logits, batch["label"]))}

        history = loop.train(
            step,
            _batches_of(files, batch_size=batch_size, total_steps=total_steps, seed=seed),
            trackables={"model": model},
            optimizer=optimizer,
            total_steps=total_steps,
            steps_per_epoch=steps_per_epoch,
            batch_size=batch_size,
            jit_compile=distributed.jit_of(config.compute, strategy),
            saving=checkpoints.saving_of(
                checkpoint_dir,
                config,
                seed=seed,
                images=files.count,
                pretrained=pretrained and digest(pretrained),
                frozen=frozen,
            ),
            report=report,
        )
    return Classifier(model, history)


def distill(
    config: DistillConfig,
    files: sources.ExampleFiles,
    *,
    seed: int,
    teacher: tf_keras.Model,
    checkpoint_dir: str | None = None,
    report: loop.Report | None = None,
) -> Classifier:
    """Trains a student on a teacher's predictions, the same crop before both (arXiv 2006.10029, equations 2 and 3).

    Args:
        config: of the student and its training.
        files: images; labels are used where there are any and `config.label_weight` is over 0.
        seed: of weights, order and crops.
        teacher: images → (logits [B, C], h); runs in inference mode and is not changed.
        checkpoint_dir: where the training is saved and taken up again after a kill.
        report: receives the progress.
    """
    batch_size = min(config.batch_size, files.count)
    steps_per_epoch = files.count // batch_size
    total_steps = steps_per_epoch * config.epochs
    size_px, n_classes = teacher.input_shape[1], teacher.output_shape[0][-1]
    with building(config.compute) as strategy, sources.naming_unreadable(files):
        encoder = resnet.build_encoder(config.student, size_px=size_px, seed=seed)
        model = heads.classifier_on(encoder, n_classes=n_classes)
        variables = model.trainable_variables
        optimizer = loop.build_optimizer(
            config.optimizer,
            variables,
            batch_size=batch_size,
            total_steps=total_steps,
            supervised_head=model.get_layer(heads.LOGITS).trainable_variables,
        )
        view = views.single_maker(config.augment, size_px=size_px, seed=seed)

        def step(batch: loop.Batch) -> dict[str, tf.Tensor]:
            images = view(batch)
            taught, _ = teacher(images, training=False)
            with tf.GradientTape() as tape:
                logits, _ = model(images, training=True)
                imitation = losses.distillation(logits, taught, temperature=config.temperature)
                loss = (1.0 - config.label_weight) * imitation
                if config.label_weight:
                    loss += config.label_weight * _cross_entropy(logits, batch["label"])
                loss = distributed.part_of_mean(loss)
            optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
            agreement = _accuracy(logits, tf.argmax(taught, axis=1))
            return {"loss": loss, "agreement": distributed.part_of_mean(agreement)}

        history = loop.train(
            step,
            _batches_of(files, batch_size=batch_size, total_steps=total_steps, seed=seed),
            trackables={"model": model},
            optimizer=optimizer,
            total_steps=total_steps,
            steps_per_epoch=steps_per_epoch,
            batch_size=batch_size,
            jit_compile=distributed.jit_of(config.compute, strategy),
            saving=checkpoints.saving_of(
                checkpoint_dir, config, seed=seed, images=files.count, teacher=digest(teacher)
            ),
            report=report,
        )
    return Classifier(model, history)


def _batches_of(files: sources.ExampleFiles, *, batch_size: int, total_steps: int, seed: int) -> loop.Batches:
    # A batch larger than the set is refused, in words, where the batches are made.
    epochs = -(-total_steps // max(files.count // batch_size, 1))

    def batches(first_step: int, context: tf.distribute.InputContext) -> Iterable[loop.Batch]:
        return data.training_batches(
            files, batch_size=batch_size, epochs=epochs, seed=seed, first_step=first_step, context=context
        )

    return batches


def _cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Mean over the labelled images of a batch; 0 where none is."""
    known = tf.cast(labels >= 0, logits.dtype)
    each = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tf.maximum(labels, 0), logits=logits)
    return tf.math.divide_no_nan(tf.reduce_sum(known * each), tf.reduce_sum(known))


def _accuracy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.cast(tf.equal(tf.argmax(logits, axis=1), labels), tf.float32))
