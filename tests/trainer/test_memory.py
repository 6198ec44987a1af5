import memory_oracle
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

from trainer import losses, memory
from trainer.config import MemoryConfig

GENERATOR = np.random.default_rng(4)
BATCHES = [tuple(GENERATOR.normal(size=[3, 2]) for _ in range(2)) for _ in range(4)]  # 6 rows each


def networks():
    images, h = layers.Input([5]), layers.Input([4])
    encoder = tf_keras.Model(images, layers.ReLU()(layers.BatchNormalization()(layers.Dense(4)(images))))
    return encoder, tf_keras.Model(h, layers.Dense(2, use_bias=False)(h))


def made(queue_size, momentum=0.9):
    encoder, head = networks()
    return memory.Memory(encoder, head, config=MemoryConfig(queue_size=queue_size, momentum=momentum)), encoder, head


@pytest.mark.parametrize("queue_size", [4, 6, 10, 24, 50])  # less than a batch, one, no multiple, all, more than all
def test_queue_after_each_batch_equals_the_oracle(queue_size):
    remembered, *_ = made(queue_size)
    for n_batches, (z_a, z_b) in enumerate(BATCHES, start=1):
        remembered.enqueue(tf.constant(z_a), tf.constant(z_b))
        expected = memory_oracle.queue_after(BATCHES[:n_batches], queue_size)
        assert int(remembered.filled) == len(expected)
        oldest_first = np.roll(remembered.queue, -int(remembered.pointer), axis=0)
        np.testing.assert_allclose(oldest_first[queue_size - len(expected) :], expected, rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(oldest_first[: queue_size - len(expected)], 0)


def test_queue_not_filled_yet_gives_its_embeddings_alone_as_negatives():
    remembered, *_ = made(20)
    z_a, z_b = (tf.constant(z) for z in BATCHES[1])
    alone = losses.nt_xent(z_a, z_b, temperature=0.5)
    assert_close = np.testing.assert_allclose
    assert_close(losses.nt_xent_and_accuracy(z_a, z_b, temperature=0.5, queue=remembered.queue)[0], alone)
    remembered.enqueue(*map(tf.constant, BATCHES[0]))
    kept = memory_oracle.queue_after(BATCHES[:1], 20)
    expected, _ = losses.nt_xent_and_accuracy(z_a, z_b, temperature=0.5, queue=kept)
    assert_close(losses.nt_xent_and_accuracy(z_a, z_b, temperature=0.5, queue=remembered.queue)[0], expected, 1e-6)
    assert float(expected) > float(alone) + 0.1


def test_no_gradient_reaches_the_queue_or_the_momentum_network():
    remembered, *_ = made(6)
    remembered.enqueue(*map(tf.constant, BATCHES[0]))
    with tf.GradientTape() as tape:
        z = remembered.project(tf.ones([4, 5]))
        loss, _ = losses.nt_xent_and_accuracy(*tf.split(z, 2), temperature=0.5, queue=remembered.queue)
    watched = [remembered.queue, *remembered.encoder.trainable_variables, *remembered.head.trainable_variables]
    assert tape.gradient(loss, watched) == [None] * len(watched)


def test_momentum_weights_follow_as_the_oracle_does():
    remembered, encoder, head = made(6, momentum=0.75)
    slow = remembered.encoder.trainable_variables + remembered.head.trainable_variables
    trained = encoder.trainable_variables + head.trainable_variables
    first = [variable.numpy() for variable in trained]
    for variable, value in zip(slow, first, strict=True):
        np.testing.assert_array_equal(variable, value)
    targets = []
    for step in range(3):
        for variable in trained:
            variable.assign_add(tf.fill(variable.shape, 1.0 + step))
        targets.append([variable.numpy() for variable in trained])
        remembered.follow(encoder, head)
    for index, variable in enumerate(slow):
        expected = memory_oracle.moving_average(first[index], [values[index] for values in targets], 0.75)
        np.testing.assert_allclose(variable, expected, rtol=1e-5)
        np.testing.assert_array_equal(trained[index], targets[-1][index])


def test_momentum_network_normalises_by_the_batchs_own_moments():
    remembered, encoder, head = made(6)
    images = tf.constant(GENERATOR.normal(size=[8, 5]), tf.float32)
    np.testing.assert_allclose(
        remembered.project(images), head(encoder(images, training=True), training=True), rtol=1e-6
    )
    assert np.abs(remembered.project(images) - head(encoder(images, training=False))).max() > 1e-2


def test_memory_is_restored_from_its_checkpoint(tmp_path):
    remembered, encoder, head = made(10)
    remembered.enqueue(*map(tf.constant, BATCHES[0]))
    encoder.trainable_variables[0].assign_add(tf.ones([5, 4]))
    remembered.follow(encoder, head)
    path = tf.train.Checkpoint(memory=remembered).write(str(tmp_path / "memory"))
    twin, *_ = made(10)
    tf.train.Checkpoint(memory=twin).read(path).assert_consumed()
    for variable, value in zip(twin.variables, remembered.variables, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert int(twin.pointer) == 6


def test_enqueue_compiled_by_xla_equals_the_graph():
    compiled, plain = made(8)[0], made(8)[0]
    for z in BATCHES:
        tf.function(compiled.enqueue, jit_compile=True, autograph=False)(*map(tf.constant, z))
        plain.enqueue(*map(tf.constant, z))
    np.testing.assert_allclose(compiled.queue, plain.queue, rtol=1e-6)
    assert int(compiled.pointer) == int(plain.pointer) == 24 % 8


def test_memory_of_no_embeddings_is_refused():
    with pytest.raises(ValueError, match=r"memory\.queue_size of at least 1; got 0"):
        made(0)
