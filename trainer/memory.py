"""The memory of SimCLR v2 (arXiv 2006.10029, section 2.1, after MoCo, 1911.05722): negatives from earlier batches."""

import tensorflow as tf
import tf_keras

from trainer import distributed
from trainer.config import MemoryConfig
from trainer.weights import copy_of


class Memory(tf.Module):
    """A momentum encoder and head, and a queue of the embeddings they made of past batches.

    A step takes the loss with `queue`, applies its gradients, lets the momentum network `follow` the trained one,
    and puts the momentum network's z of the batch into the queue. The momentum network normalises by the batch's own
    moments, as the trained one does, so that both make their embeddings in the same way; its moving statistics are
    neither averaged nor ever used. Made within the scope of the strategy; all replicas hold the same queue.

    Attributes:
        encoder: momentum encoder, at first a copy; no optimiser may get its variables.
        head: momentum head.
        queue: float32 [K, D], l2-normalised; rows of zeros are not filled yet, and `losses` does not see them.
        written: embeddings ever put in.
    """

    def __init__(self, encoder: tf_keras.Model, head: tf_keras.Model, *, config: MemoryConfig) -> None:
        """
        Args:
            encoder: that is trained, a functional model; it is not changed.
            head: that is trained, a functional model from h to z [B, D].
            config: with a queue_size of at least 1.
        """
        super().__init__(name="memory")
        if not config.queue_size:
            raise ValueError("a memory needs memory.queue_size of at least 1; got 0, which stands for no memory")
        self.encoder, self.head = copy_of(encoder), copy_of(head)
        self._momentum = config.momentum
        # All replicas write the same values, so that any one's will do.
        same = {"trainable": False, "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA}
        self.queue = tf.Variable(tf.zeros([config.queue_size, head.output_shape[-1]]), name="queue", **same)
        self.written = tf.Variable(tf.zeros([], tf.int64), name="written", **same)

    @property
    def pointer(self) -> tf.Tensor:
        """Row of the queue that is written next."""
        return self.written % self.queue.shape[0]

    @property
    def filled(self) -> tf.Tensor:
        """Rows of the queue that hold an embedding."""
        return tf.minimum(self.written, self.queue.shape[0])

    def project(self, images: tf.Tensor) -> tf.Tensor:
        """The momentum network's z, [B, D], without gradient.

        Args:
            images: [B, H, W, 3], both views of a batch. For a batch in chunks take a `GradientCache` of `encoder`
                and `head` and its `project`.
        """
        return tf.stop_gradient(self.head(self.encoder(images, training=True), training=True))

    def follow(self, encoder: tf_keras.Model, head: tf_keras.Model) -> None:
        """slow ← m·slow + (1−m)·trained, for every trainable weight, batch norm's γ and β among them."""
        slow = self.encoder.trainable_variables + self.head.trainable_variables
        trained = encoder.trainable_variables + head.trainable_variables

        def move(variable: tf.Variable, target: tf.Tensor) -> None:
            variable.assign_sub((variable - target) * (1 - self._momentum))

        def update(strategy: tf.distribute.Strategy) -> None:
            for variable, target in zip(slow, trained, strict=True):
                strategy.extended.update(variable, move, args=(target,), group=False)

        # As the optimizers of tf_keras do: each device moves its own copy, on whatever strategy.
        tf.__internal__.distribute.interim.maybe_merge_call(update, tf.distribute.get_strategy())

    def enqueue(self, z_a: tf.Tensor, z_b: tf.Tensor) -> None:
        """Writes the global batch's embeddings over the oldest ones: image by image, first view, second view.

        Args:
            z_a: [N/R, D] of this replica's first views, l2-normalised here.
            z_b: [N/R, D] of its second views.
        """
        z = tf.math.l2_normalize(tf.cast(tf.stack([z_a, z_b], axis=1), tf.float32), axis=-1)
        z = tf.reshape(distributed.gather(z), [-1, z.shape[-1]])
        n_rows, size = tf.shape(z, out_type=tf.int64)[0], self.queue.shape[0]
        rows = (self.written + tf.range(n_rows))[-size:] % size  # of a batch larger than the queue the last ones stay
        self.queue.assign(tf.tensor_scatter_nd_update(self.queue, rows[:, tf.newaxis], z[-size:]))
        self.written.assign_add(n_rows)
