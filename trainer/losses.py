"""NT-Xent, the contrastive loss of SimCLR (arXiv 2002.05709, equation 1)."""

import tensorflow as tf

_MASKED = -1e9  # a logit that no softmax can see, finite so that 0·logit stays 0


def nt_xent(z_a: tf.Tensor, z_b: tf.Tensor, *, temperature: float) -> tf.Tensor:
    """Normalised temperature-scaled cross entropy over 2N−2 negatives.

    Args:
        z_a: [N, D] projections of the first views; l2-normalised here.
        z_b: [N, D] projections of the second views, row i belonging to row i of `z_a`.
        temperature: τ > 0.

    Returns:
        Scalar float32, the mean over all 2N rows; log(2N−1) when all z are equal.
    """
    loss, _ = nt_xent_and_accuracy(z_a, z_b, temperature=temperature)
    return loss


def nt_xent_and_accuracy(z_a: tf.Tensor, z_b: tf.Tensor, *, temperature: float) -> tuple[tf.Tensor, tf.Tensor]:
    """NT-Xent and the share of rows whose positive is more similar than all their negatives; see `nt_xent`."""
    z = tf.math.l2_normalize(tf.cast(tf.concat([z_a, z_b], axis=0), tf.float32), axis=1)
    n_rows = tf.shape(z)[0]
    similarities = tf.matmul(z, z, transpose_b=True) / temperature
    logits = tf.linalg.set_diag(similarities, tf.fill([n_rows], _MASKED))
    positives = tf.math.floormod(tf.range(n_rows) + n_rows // 2, n_rows)
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=positives, logits=logits)
    hits = tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), positives)
    return tf.reduce_mean(loss), tf.reduce_mean(tf.cast(hits, tf.float32))
