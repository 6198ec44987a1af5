"""One pretraining step on several replicas in a process of its own; prints what came out as JSON.

`replicas.py mirrored` runs 1, 2, 4 and 8 logical CPU devices; `many` takes the trainer's own step on all of them;
`multi_worker` is a worker of TF_CONFIG.
"""

import json
import sys

import numpy as np
import tensorflow as tf
import tf_keras

from trainer import classifiers, distributed, gradient_cache, heads, lars, loop, losses, memory, resnet, stages
from trainer.config import (
    AugmentConfig,
    ClassifierConfig,
    ComputeConfig,
    CropConfig,
    DistillConfig,
    EncoderConfig,
    MemoryConfig,
    OptimizerConfig,
    PretrainConfig,
)

N_IMAGES, N_DIMENSIONS, N_CLASSES, TEMPERATURE = 8, 3, 3, 0.3
GENERATOR = np.random.default_rng(5)
VIEWS = [GENERATOR.normal(size=[N_IMAGES, 4]) for _ in range(2)]
Z = [GENERATOR.normal(size=[N_IMAGES, N_DIMENSIONS]) for _ in range(2)]
QUEUE = GENERATOR.normal(size=[5, N_DIMENSIONS])
QUEUE /= np.linalg.norm(QUEUE, axis=1, keepdims=True)
QUEUE[3] = 0  # an empty slot
LABELS = np.array([0, 2, 1, -1, -1, 1, -1, -1])  # three of the first half, one of the second
SIDE = 4
# Crops show whose keys made a view; colours would be traced on each of three replicas, for seconds.
CROPS = AugmentConfig(crop=CropConfig(size_px=SIDE), jitter_strength=0.0, grayscale_probability=0.0)
SGD = OptimizerConfig(name="sgd", learning_rate=0.5)  # a wrong scale of the gradient shows; LARS hides it
RESNET = EncoderConfig(stage_blocks=(1,), width=4)
PRETRAINING = PretrainConfig(encoder=RESNET, augment=CROPS, batch_size=N_IMAGES, optimizer=SGD)


def network(seed, n_inputs, n_outputs):
    initializer = tf_keras.initializers.GlorotUniform(seed=seed)
    inputs = tf_keras.layers.Input([n_inputs])
    x = tf_keras.layers.Dense(n_outputs, use_bias=False, kernel_initializer=initializer)(inputs)
    x = tf_keras.layers.BatchNormalization(momentum=0.9, synchronized=True)(x)
    return tf_keras.Model(inputs, tf_keras.layers.ReLU(negative_slope=0.1)(x))


def own(x):
    """The rows of a global batch that the current replica takes."""
    size = distributed.per_replica_batch(N_IMAGES, tf.distribute.get_strategy())
    return tf.constant(x)[distributed.replica_id() * size :][:size]


def step_results(strategy, *, chunk_size=None):
    """Loss, accuracy, summed gradients, and all variables after one step with LARS."""
    with strategy.scope():
        encoder, head = network(1, 4, 6), network(2, 6, N_DIMENSIONS)
        variables = encoder.trainable_variables + head.trainable_variables
        vectors = [variable for variable in variables if variable.shape.rank == 1]
        optimizer = lars.LARS(0.5, weight_decay=0.1, exclude=vectors)
        optimizer.build(variables)
        kernel = encoder.trainable_variables[0].numpy()
        cache = chunk_size and gradient_cache.GradientCache(encoder, head, chunk_size=chunk_size)

    def loss_of(z_a, z_b):
        return losses.nt_xent_and_accuracy(z_a, z_b, temperature=TEMPERATURE)

    def step():
        views = [own(view) for view in VIEWS]
        if cache:
            results, gradients = cache.gradients(
                lambda first: tuple(cache.chunk(view, first) for view in views), views[0].shape[0], loss_of
            )
        else:
            with tf.GradientTape() as tape:
                z = head(encoder(tf.concat(views, axis=0), training=True), training=True)
                results = loss_of(*tf.split(z, 2))
            gradients = tape.gradient(results[0], variables)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return results, gradients

    results, gradients = tf.function(lambda: strategy.run(step), autograph=False)()
    return {
        "loss": total(strategy, results[0]),
        "accuracy": total(strategy, results[1]),
        "gradients": [total(strategy, gradient) for gradient in gradients],
        "variables": [variable.numpy().tolist() for variable in encoder.variables + head.variables],
        "kernel before": kernel.tolist(),
    }


def image_network(seed):
    inputs = tf_keras.layers.Input([SIDE, SIDE, 3])
    return tf_keras.Model(inputs, network(seed, SIDE * SIDE * 3, 6)(tf_keras.layers.Flatten()(inputs)))


def classifier(seed):
    encoder = image_network(seed)
    return tf_keras.Model(encoder.input, [network(seed, 6, N_CLASSES)(encoder.output), encoder.output])


def pretraining_results(strategy):
    """The trainer's own step, on images and its own networks: metrics, and all variables after it."""
    with strategy.scope():
        encoder = resnet.build_encoder(PRETRAINING.encoder, size_px=SIDE, seed=1)
        head = heads.projection_head(PRETRAINING.head, input_dim=encoder.output_shape[-1], seed=2)
        step = stages.pretrain_step(PRETRAINING, encoder, head, optimizer_of(encoder, head), seed=3)
    return results_of_step(strategy, step, encoder, head)


def distillation_results(strategy):
    """The same of a step of distillation in which some images have labels."""
    config = DistillConfig(augment=CROPS, label_weight=0.5, temperature=1.0)
    with strategy.scope():
        student = classifier(1)
        step = classifiers.distill_step(config, student, optimizer_of(student), teacher=classifier(7), seed=3)
    return results_of_step(strategy, step, student)


def supervised_results(strategy):
    """The same of a step on these labels alone."""
    with strategy.scope():
        model = classifier(1)
        step = classifiers.classifier_step(ClassifierConfig(augment=CROPS), model, optimizer_of(model), seed=3)
    return results_of_step(strategy, step, model)


def optimizer_of(*models):
    variables = [variable for model in models for variable in model.trainable_variables]
    return loop.build_optimizer(SGD, variables, batch_size=N_IMAGES, total_steps=2)


def results_of_step(strategy, step, *models):
    images = np.random.default_rng(6).integers(0, 256, (N_IMAGES, SIDE, SIDE, 3), np.uint8)

    def run():
        keys = np.arange(N_IMAGES)
        return step(
            {
                "image": own(images),
                "size": own(np.full([N_IMAGES, 2], SIDE, np.int32)),
                "key": own(keys),
                "epoch": own(np.zeros_like(keys)),
                "label": own(LABELS),
            }
        )

    metrics = tf.function(lambda: strategy.run(run), autograph=False)()
    return {name: total(strategy, part) for name, part in metrics.items()} | {
        "variables": [variable.numpy().tolist() for model in models for variable in model.variables]
    }


def total(strategy, parts):
    return strategy.reduce("SUM", parts, axis=None).numpy().tolist()


def loss_results(strategy, **options):
    """The loss of fixed z and its gradient with respect to each replica's own rows."""

    def run():
        z_a, z_b = (own(z) for z in Z)
        with tf.GradientTape() as tape:
            tape.watch([z_a, z_b])
            loss, accuracy = losses.nt_xent_and_accuracy(z_a, z_b, temperature=TEMPERATURE, **options)
        return loss, accuracy, tape.gradient(loss, [z_a, z_b])

    loss, accuracy, gradients = tf.function(lambda: strategy.run(run), autograph=False)()
    rows = [np.concatenate(strategy.experimental_local_results(gradient)).tolist() for gradient in gradients]
    return {"loss": total(strategy, loss), "accuracy": total(strategy, accuracy), "gradients": rows}


def memory_results(strategy):
    """Queue and momentum weights after two batches whose rows are more than the queue has."""
    with strategy.scope():
        encoder, head = network(1, 4, 6), network(2, 6, N_DIMENSIONS)
        remembered = memory.Memory(encoder, head, config=MemoryConfig(queue_size=20, momentum=0.75))
        start = [variable.numpy() for variable in encoder.trainable_variables + head.trainable_variables]
        for variable in encoder.trainable_variables + head.trainable_variables:
            variable.assign(variable + 1)

    def run():
        remembered.follow(encoder, head)
        for scale in (1, -2):
            remembered.enqueue(own(scale * Z[0]), own(scale * Z[1]))

    tf.function(lambda: strategy.run(run), autograph=False)()
    slow = remembered.encoder.trainable_variables + remembered.head.trainable_variables
    copies = strategy.experimental_local_results(remembered.queue)
    return {
        "queues": [copy.numpy().tolist() for copy in copies],
        "weights": [variable.numpy().tolist() for variable in slow],
        "weights before": [weight.tolist() for weight in start],
        "pointer": int(remembered.pointer),
    }


def strategies():
    """The largest is the configuration's own. Two of its kind in one process would take each other's collectives."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 8)
    yield distributed.strategy_of(ComputeConfig())
    for n_replicas in (2, 4):
        devices = [f"CPU:{index}" for index in range(n_replicas)]
        yield tf.distribute.MirroredStrategy(devices, tf.distribute.ReductionToOneDevice())
    yield distributed.strategy_of(ComputeConfig(strategy="mirrored"))


def mirrored():
    results = {}
    for strategy in strategies():
        found = {"step": step_results(strategy)}
        if strategy.num_replicas_in_sync <= 2:
            found |= {
                "pretraining": pretraining_results(strategy),
                "distillation": distillation_results(strategy),
                "supervised": supervised_results(strategy),
                "loss": loss_results(strategy),
                "queue": loss_results(strategy, queue=QUEUE),
                "queue and blocks": loss_results(strategy, queue=QUEUE, block_rows=3),
                "chunks": step_results(strategy, chunk_size=2),
                "memory": memory_results(strategy),
            }
        results[strategy.num_replicas_in_sync] = found
    return results


def many():
    return {strategy.num_replicas_in_sync: pretraining_results(strategy) for strategy in strategies()}


def multi_worker():
    return step_results(distributed.strategy_of(ComputeConfig(strategy="multi_worker")))


if __name__ == "__main__":
    tf_keras.backend.set_floatx("float64")
    json.dump({"mirrored": mirrored, "many": many, "multi_worker": multi_worker}[sys.argv[1]](), sys.stdout)
