"""Classifiers: fine-tuned on a pretrained encoder, trained from scratch, or taught by another network."""

from dataclasses import dataclass

import tensorflow as tf
import tf_keras

from trainer import checkpoints, data, distributed, heads, loop, losses, resnet, sources, views
from trainer.config import ClassifierConfig, DistillConfig, EncoderConfig
from trainer.history import History
from trainer.weights import copy_of, digest


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
    with distributed.building(config.compute) as strategy, sources.naming_unreadable(files):
        encoder = resnet.build_encoder(encoder_config, size_px=size_px, seed=seed)
        if pretrained is not None:
            encoder.set_weights(pretrained.get_weights())
        kept = heads.kept_layers(pretrained_head, config.head_layer) if config.head_layer else None
        model = heads.classifier_on(encoder, n_classes=n_classes, kept=kept)
        optimizer = loop.build_optimizer(
            config.optimizer,
            _trained(model, frozen=frozen),
            batch_size=batch_size,
            total_steps=total_steps,
            steps_per_epoch=steps_per_epoch,
            supervised_head=model.get_layer(heads.LOGITS).trainable_variables,
        )
        history = loop.train(
            classifier_step(config, model, optimizer, seed=seed, frozen=frozen),
            data.remaining_batches(files, batch_size=batch_size, total_steps=total_steps, seed=seed),
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
                images=sources.fingerprint(files),
                encoder=encoder_config.model_dump(mode="json"),
                size_px=size_px,
                n_classes=n_classes,
                pretrained=pretrained and digest(pretrained),
                kept_head=kept and digest(kept),
                frozen=frozen,
            ),
            report=report,
        )
    return Classifier(model, history)


def classifier_step(
    config: ClassifierConfig,
    model: tf_keras.Model,
    optimizer: tf_keras.optimizers.Optimizer,
    *,
    seed: int,
    frozen: bool = False,
) -> loop.Step:
    """One replica's step on labels: its share of a batch → its parts of loss and accuracy.

    Args:
        config: of the training.
        model: images → (logits [B, C], h).
        optimizer: built on the variables that are trained.
        seed: of the crops.
        frozen: all but the classifier runs in inference mode and stays as it is.
    """
    variables = _trained(model, frozen=frozen)
    view = views.single_maker(config.augment, size_px=model.input_shape[1], seed=seed)

    def step(batch: loop.Batch) -> dict[str, tf.Tensor]:
        images = view(batch)
        with tf.GradientTape() as tape:
            logits, _ = model(images, training=not frozen)
            loss = _cross_entropy(logits, batch["label"])
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return {"loss": loss, "accuracy": distributed.part_of_mean(_accuracy(logits, batch["label"]))}

    return step


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

    The teacher's part is weighed by τ², as in the authors' notebook: gradients through logits / τ are 1/τ times as
    large and change as much faster; at τ 0.1 and the rate of pretraining, training diverges without.

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
    with distributed.building(config.compute) as strategy, sources.naming_unreadable(files):
        encoder = resnet.build_encoder(config.student, size_px=size_px, seed=seed)
        model = heads.classifier_on(encoder, n_classes=n_classes)
        optimizer = loop.build_optimizer(
            config.optimizer,
            model.trainable_variables,
            batch_size=batch_size,
            total_steps=total_steps,
            steps_per_epoch=steps_per_epoch,
            supervised_head=model.get_layer(heads.LOGITS).trainable_variables,
        )
        history = loop.train(
            # A copy: replicas on a TPU read no variable that was made outside of their strategy.
            distill_step(config, model, optimizer, teacher=copy_of(teacher), seed=seed),
            data.remaining_batches(files, batch_size=batch_size, total_steps=total_steps, seed=seed),
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
                images=sources.fingerprint(files),
                size_px=size_px,
                n_classes=n_classes,
                teacher=digest(teacher),
            ),
            report=report,
        )
    return Classifier(model, history)


def distill_step(
    config: DistillConfig,
    model: tf_keras.Model,
    optimizer: tf_keras.optimizers.Optimizer,
    *,
    teacher: tf_keras.Model,
    seed: int,
) -> loop.Step:
    """One replica's step of distillation: its share of a batch → its parts of loss and agreement with the teacher.

    Args:
        config: of the training.
        model: the student, images → (logits [B, C], h).
        optimizer: built on the student's trainable variables.
        teacher: images → (logits [B, C], h).
        seed: of the crops.
    """
    variables = model.trainable_variables
    view = views.single_maker(config.augment, size_px=teacher.input_shape[1], seed=seed)

    def step(batch: loop.Batch) -> dict[str, tf.Tensor]:
        images = view(batch)
        taught, _ = teacher(images, training=False)
        with tf.GradientTape() as tape:
            logits, _ = model(images, training=True)
            imitation = losses.distillation(logits, taught, temperature=config.temperature) * config.temperature**2
            loss = (1.0 - config.label_weight) * distributed.part_of_mean(imitation)
            if config.label_weight:
                loss += config.label_weight * _cross_entropy(logits, batch["label"])
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        agreement = _accuracy(logits, tf.argmax(taught, axis=1))
        return {"loss": loss, "agreement": distributed.part_of_mean(agreement)}

    return step


def _trained(model: tf_keras.Model, *, frozen: bool) -> list[tf.Variable]:
    return model.get_layer(heads.LOGITS).trainable_variables if frozen else model.trainable_variables


def _cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """A replica's part of the mean over the labelled images of the global batch; 0 where none is.

    Of these images the replicas have unequal numbers, so that the mean of their means would be another one.
    """
    known = tf.cast(labels >= 0, logits.dtype)
    each = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tf.maximum(labels, 0), logits=logits)
    return tf.math.divide_no_nan(tf.reduce_sum(known * each), distributed.sum_over_replicas(tf.reduce_sum(known)))


def _accuracy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.cast(tf.equal(tf.argmax(logits, axis=1), labels), tf.float32))
