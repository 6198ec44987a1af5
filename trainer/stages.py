"""The stages of SimCLR: pretraining without labels, and training a classifier from it or from scratch."""

from collections.abc import Iterator
from dataclasses import dataclass

import tensorflow as tf
import tf_keras

from trainer import augment, checkpoints, data, heads, loop, losses, resnet
from trainer.config import AugmentConfig, ClassifierConfig, EncoderConfig, PretrainConfig

_DEFAULT_BATCH_SIZE = 256
_MODEL_SEED_STRIDE = 1_000  # keeps the head's seeds apart from the encoder's
_AUTOGRAPH = False  # no function here branches on a tensor, and converting Keras' own code takes seconds


@dataclass(frozen=True)
class Pretrained:
    """What pretraining leaves: the encoder f, the head g that v1 throws away, and the curves."""

    encoder: tf_keras.Model
    head: tf_keras.Model
    history: loop.History
    batch_size: int


def pretrain(
    config: PretrainConfig,
    files: data.ExampleFiles,
    *,
    seed: int,
    checkpoint_dir: str | None = None,
    log_dir: str | None = None,
    report: loop.Report | None = None,
) -> Pretrained:
    """SimCLR: two views of each image, one forward pass, NT-Xent (arXiv 2002.05709, algorithm 1).

    Args:
        config: of the method.
        files: unlabeled examples.
        seed: of weights, order and views.
        checkpoint_dir: where the training is saved and taken up again after a kill.
        log_dir: of TensorBoard.
        report: receives the progress.

    Raises:
        ValueError: the batch is larger than the set.
    """
    batch_size = config.batch_size or min(_DEFAULT_BATCH_SIZE, files.count)
    size_px = config.augment.crop.size_px or files.short_side_px
    encoder = resnet.build_encoder(config.encoder, size_px=size_px, seed=seed)
    head = heads.projection_head(config.head, input_dim=encoder.output_shape[-1], seed=seed + _MODEL_SEED_STRIDE)
    steps_per_epoch = files.count // batch_size if batch_size <= files.count else 1
    total_steps = steps_per_epoch * config.epochs
    variables = encoder.trainable_variables + head.trainable_variables
    optimizer = loop.build_optimizer(config.optimizer, variables, batch_size=batch_size, total_steps=total_steps)
    views = view_maker(config.augment, size_px=size_px, seed=seed)
    identity = config.model_dump(mode="json") | {"seed": seed, "images": files.count}
    saving = checkpoint_dir and checkpoints.Saving(
        checkpoint_dir, every_steps=config.checkpoint_every_steps, kept=config.kept_checkpoints, identity=identity
    )

    def step(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        view_a, view_b = views(batch["image"], batch["key"], batch["epoch"], batch["size"])
        with tf.GradientTape() as tape:
            h = encoder(tf.concat([view_a, view_b], axis=0), training=True)
            z_a, z_b = tf.split(head(h, training=True), 2)
            loss, accuracy = losses.nt_xent_and_accuracy(z_a, z_b, temperature=config.temperature)
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return {"loss": loss, "contrastive_accuracy": accuracy}

    with data.naming_unreadable(files):
        history = loop.train(
            step,
            lambda first_step, context: data.training_batches(
                files,
                batch_size=batch_size,
                epochs=config.epochs,
                seed=seed,
                first_step=first_step,
                context=context,
            ),
            trackables={"encoder": encoder, "head": head},
            optimizer=optimizer,
            total_steps=total_steps,
            steps_per_epoch=steps_per_epoch,
            batch_size=batch_size,
            saving=saving,
            log_dir=log_dir,
            report=report,
        )
    return Pretrained(encoder, head, history, batch_size)


def view_maker(config: AugmentConfig, *, size_px: int, seed: int) -> tf.types.experimental.GenericFunction:
    """`augment.two_views` as configured, compiled by XLA: four times faster on two cores than op by op."""
    config = config.model_copy(update={"crop": config.crop.model_copy(update={"size_px": size_px})})

    @tf.function(jit_compile=True, autograph=_AUTOGRAPH)
    def views(images: tf.Tensor, keys: tf.Tensor, epoch: tf.Tensor, sizes: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return augment.two_views(images, keys, seed=seed, epoch=epoch, config=config, sizes=sizes)

    return views


@dataclass(frozen=True)
class Classifier:
    """A network from images to class logits, and how it came about.

    Attributes:
        model: float32 [B, S, S, 3] in [0, 1] → (logits [B, C], h [B, D]).
        history: of the training.
    """

    model: tf_keras.Model
    history: loop.History


def train_classifier(
    config: ClassifierConfig,
    files: data.ExampleFiles,
    *,
    seed: int,
    encoder_config: EncoderConfig,
    size_px: int,
    n_classes: int,
    pretrained: tf_keras.Model | None = None,
    report: loop.Report | None = None,
) -> Classifier:
    """Fine-tunes a pretrained encoder, or trains the same network from scratch: the supervised baseline.

    Args:
        config: of the training.
        files: labelled examples.
        seed: of weights, order and crops.
        encoder_config: of the network.
        size_px: side of the network's input.
        n_classes: C.
        pretrained: encoder whose weights are the start; None starts at random. It is not changed.
        report: receives the progress.
    """
    batch_size = min(config.batch_size, files.count)
    steps_per_epoch = files.count // batch_size
    encoder = resnet.build_encoder(encoder_config, size_px=size_px, seed=seed)
    if pretrained is not None:
        encoder.set_weights(pretrained.get_weights())
    head = heads.classification_head(n_classes)
    model = tf_keras.Model(encoder.input, [head(encoder.output), encoder.output], name="classifier")
    optimizer = loop.build_optimizer(
        config.optimizer,
        model.trainable_variables,
        batch_size=batch_size,
        total_steps=config.steps,
        supervised_head=head.trainable_variables,
    )
    crop = config.augment.crop.model_copy(update={"size_px": size_px})

    def step(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        images = augment.crop_and_flip(
            batch["image"], batch["key"], seed=seed, epoch=batch["epoch"], config=crop, sizes=batch["size"]
        )
        with tf.GradientTape() as tape:
            logits, _ = model(images, training=True)
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels=batch["label"], logits=logits)
            )
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        hits = tf.equal(tf.argmax(logits, axis=1), batch["label"])
        return {"loss": loss, "accuracy": tf.reduce_mean(tf.cast(hits, tf.float32))}

    with data.naming_unreadable(files):
        history = loop.train(
            step,
            lambda first_step, context: data.training_batches(
                files,
                batch_size=batch_size,
                epochs=-(-config.steps // steps_per_epoch),
                seed=seed,
                first_step=first_step,
                context=context,
            ),
            trackables={},
            optimizer=optimizer,
            total_steps=config.steps,
            steps_per_epoch=steps_per_epoch,
            batch_size=batch_size,
            report=report,
        )
    return Classifier(model, history)


def predictions(model: tf_keras.Model, batches: tf.data.Dataset) -> Iterator[dict[str, tf.Tensor]]:
    """Runs a model over evaluation batches: each batch with the model's `output` beside it."""
    run = tf.function(lambda images: model(images, training=False), reduce_retracing=True, autograph=_AUTOGRAPH)
    for batch in batches:
        yield {**batch, "output": run(batch["image"])}
