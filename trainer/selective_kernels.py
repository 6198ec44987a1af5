"""Selective kernels (arXiv 1903.06586) as SimCLRv2 uses them: two 3x3 branches, weighed for each image and channel.

Both branches are halves of one convolution's channels. The layers here hold no variables.
"""

import tensorflow as tf
import tf_keras
from tf_keras import layers

BRANCHES = 2


def branch_weights(logits: tf.Tensor) -> tf.Tensor:
    """The attention over the branches.

    Args:
        logits: [B, 1, 1, 2F], the first branch's F channels first.

    Returns:
        float32 or wider [2, B, 1, 1, F], which sums to 1 over the branches.
    """
    wide = logits.dtype if logits.dtype.size > tf.float32.size else tf.float32
    return tf.nn.softmax(tf.stack(tf.split(tf.cast(logits, wide), BRANCHES, axis=-1)), axis=0)


@tf_keras.utils.register_keras_serializable("simclr")
class PooledBranches(layers.Layer):
    """[B, H, W, 2F] → [B, 1, 1, F]: the spatial mean of the sum of both branches."""

    def call(self, branches: tf.Tensor) -> tf.Tensor:
        """The mean of each channel first, which is the same and reads the maps once."""
        return tf.add_n(tf.split(tf.reduce_mean(branches, axis=[1, 2], keepdims=True), BRANCHES, axis=-1))


@tf_keras.utils.register_keras_serializable("simclr")
class SelectedBranches(layers.Layer):
    """([B, H, W, 2F], logits [B, 1, 1, 2F]) → [B, H, W, F]: the sum of both branches, each times its weight."""

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        """See the class."""
        branches, logits = inputs
        weights = tf.unstack(tf.cast(branch_weights(logits), branches.dtype))
        return tf.add_n([x * w for x, w in zip(tf.split(branches, BRANCHES, axis=-1), weights, strict=True)])
