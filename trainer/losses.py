"""NT-Xent, the contrastive loss of SimCLR (arXiv 2002.05709, equation 1), and distillation (2006.10029, equation 2).

Both compute in float32, or in float64 for float64 inputs, whatever the network computes in.
"""

import numbers

import tensorflow as tf

from trainer import distributed

_MASKED = -1e9  # a logit that no softmax can see, finite so that 0·logit stays 0


def nt_xent(z_a: tf.Tensor, z_b: tf.Tensor, *, temperature: float) -> tf.Tensor:
    """Normalised temperature-scaled cross entropy over 2N−2 negatives.

    Args:
        z_a: [N, D] projections of the first views; l2-normalised here.
        z_b: [N, D] projections of the second views, row i belonging to row i of `z_a`.
        temperature: τ > 0.

    Returns:
        Scalar, the mean over all 2N rows; log(2N−1) when all z are equal. In one of several replicas: the
        replica's part of that mean, see `nt_xent_and_accuracy`.

    Raises:
        ValueError: shapes that differ or are not [N, D], or a temperature of 0 or less.
    """
    loss, _ = nt_xent_and_accuracy(z_a, z_b, temperature=temperature)
    return loss


def nt_xent_and_accuracy(
    z_a: tf.Tensor,
    z_b: tf.Tensor,
    *,
    temperature: float,
    queue: tf.Tensor | None = None,
    block_rows: int | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """NT-Xent, and the share of rows whose positive is more similar than all their negatives.

    On R replicas of N/R pairs each, every row sees the rows of all replicas, and gradients flow back to all of them.
    Each replica returns its part: its own rows' losses and hits over 2N. The SUM over the replicas is the mean over
    all rows, for the loss and for the accuracy alike, and summed gradients are those of one replica of N pairs.

    Args:
        z_a: [N/R, D] projections of the first views; l2-normalised here.
        z_b: [N/R, D] projections of the second views, row i belonging to row i of `z_a`.
        temperature: τ > 0.
        queue: [K, D] further negatives of every row, l2-normalised, without gradient; rows of zeros are empty and
            not seen (the memory of arXiv 2006.10029, section 2.1).
        block_rows: rows of the similarity matrix held at once, so that memory is O(block_rows·(2N + K)) in place of
            O(2N/R·(2N + K)), forward and backward; None holds all. Equal to rounding.

    Returns:
        Scalars loss and accuracy.

    Raises:
        ValueError: as of `nt_xent`.
    """
    _check(temperature, z_a=z_a, z_b=z_b)
    rows = tf.math.l2_normalize(_wide(tf.concat([z_a, z_b], axis=0)), axis=1)
    columns = distributed.gather(rows)
    n_rows = tf.shape(rows)[0]
    own = distributed.replica_id() * n_rows + tf.range(n_rows)
    positives = own - tf.range(n_rows) + tf.math.floormod(tf.range(n_rows) + n_rows // 2, n_rows)
    n_all = tf.shape(columns)[0]
    negatives, penalty = _negatives(columns, queue)
    if block_rows is None:
        logits = _logits(rows, negatives, own, penalty, temperature)
        loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=positives, logits=logits))
        hits = _hits(logits, positives)
    else:
        # The numerator of equation 1 needs no matrix; the denominator is what goes block by block.
        attraction = tf.reduce_sum(rows * tf.gather(columns, positives)) / temperature
        repulsion, hits = _repulsion_by_blocks(
            rows, columns, negatives, own, positives, penalty, temperature=temperature, block_rows=block_rows
        )
        loss = repulsion - attraction
    return loss / tf.cast(n_all, loss.dtype), hits / tf.cast(n_all, hits.dtype)


def distillation(student_logits: tf.Tensor, teacher_logits: tf.Tensor, *, temperature: float) -> tf.Tensor:
    """Cross entropy of the student's predictions under the teacher's (arXiv 2006.10029, equation 2).

    −Σ_y P_teacher(y|x; τ)·log P_student(y|x; τ) with P(y|x; τ) = softmax(logits / τ), the mean over the batch. No
    gradient reaches the teacher. As in the paper there is no factor τ².

    Args:
        student_logits: [B, C].
        teacher_logits: [B, C] of the same crops, from a teacher in inference mode.
        temperature: τ > 0, of both.

    Returns:
        Scalar, the mean over the rows given; on several replicas `distributed.part_of_mean` makes it a part.

    Raises:
        ValueError: shapes that differ or are not [B, C], or a temperature of 0 or less.
    """
    _check(temperature, student_logits=student_logits, teacher_logits=teacher_logits)
    targets = tf.nn.softmax(tf.stop_gradient(_wide(teacher_logits)) / temperature)
    losses = tf.nn.softmax_cross_entropy_with_logits(labels=targets, logits=_wide(student_logits) / temperature)
    return tf.reduce_mean(losses)


def _check(temperature: float | tf.Tensor, **matrices: tf.Tensor) -> None:
    """What would be broadcast, or give a number without a meaning, as far as a graph knows it."""
    shapes = {name: tf.convert_to_tensor(matrix).shape for name, matrix in matrices.items()}
    first, second = shapes.values()
    if not (first.is_compatible_with([None, None]) and first.is_compatible_with(second)):
        found = " and ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"{found}: must be matrices of one shape, row i of both being of the same image")
    if isinstance(temperature, numbers.Real) and not temperature > 0:
        raise ValueError(f"temperature {temperature}: must be more than 0; the papers take 0.1 to 1")


def _wide(x: tf.Tensor) -> tf.Tensor:
    x = tf.convert_to_tensor(x)
    return x if x.dtype == tf.float64 else tf.cast(x, tf.float32)


def _negatives(columns: tf.Tensor, queue: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
    """Columns of the similarity matrix, and what is added to each column's logits: `_MASKED` to empty slots."""
    penalty = tf.zeros([tf.shape(columns)[0]], columns.dtype)
    if queue is None:
        return columns, penalty
    queue = tf.stop_gradient(tf.cast(queue, columns.dtype))
    empty = tf.cast(tf.reduce_all(tf.equal(queue, 0), axis=1), columns.dtype)
    return tf.concat([columns, queue], axis=0), tf.concat([penalty, _MASKED * empty], axis=0)


def _logits(rows: tf.Tensor, columns: tf.Tensor, own: tf.Tensor, penalty: tf.Tensor, temperature: float) -> tf.Tensor:
    """Similarities over τ; `own` is the column of each row itself, which it must not see."""
    similarities = tf.matmul(rows, columns, transpose_b=True) / temperature + penalty
    itself = tf.equal(own[:, tf.newaxis], tf.range(tf.shape(columns)[0]))
    return tf.where(itself, tf.constant(_MASKED, rows.dtype), similarities)


def _hits(logits: tf.Tensor, positives: tf.Tensor) -> tf.Tensor:
    hits = tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), positives)
    return tf.reduce_sum(tf.cast(hits, tf.float32))


def _repulsion_by_blocks(
    rows: tf.Tensor,
    columns: tf.Tensor,
    negatives: tf.Tensor,
    own: tf.Tensor,
    positives: tf.Tensor,
    penalty: tf.Tensor,
    *,
    temperature: float,
    block_rows: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Σ over rows of logsumexp(logits), and the hits, from one block of rows at a time.

    The gradient of a logsumexp is the softmax that the block holds anyway, so the same sweep leaves the gradients,
    [rows, D] and [columns, D], for the backward pass: nothing is stored per block, and nothing computed twice.
    """
    size = tf.minimum(block_rows, tf.shape(rows)[0])
    n_blocks = -(-tf.shape(rows)[0] // size)
    padding = n_blocks * size - tf.shape(rows)[0]

    def blocks(x, fill):
        x = tf.pad(x, [[0, padding]] + [[0, 0]] * (x.shape.rank - 1), constant_values=fill)
        return tf.reshape(x, tf.concat([[n_blocks, size], tf.shape(x)[1:]], axis=0))

    own, positives = blocks(own, -1), blocks(positives, -1)
    real = blocks(tf.ones_like(rows[:, 0]), 0)

    @tf.custom_gradient
    def repulsion_and_hits(rows, columns):
        row_blocks = blocks(rows, 0)

        def body(index, total, hits, d_rows, d_columns):
            logits = _logits(row_blocks[index], negatives, own[index], penalty, temperature)
            total += tf.reduce_sum(real[index] * tf.reduce_logsumexp(logits, axis=1))
            hits += _hits(logits, positives[index])
            softmax = tf.nn.softmax(logits) * real[index][:, tf.newaxis] / temperature
            d_rows = d_rows.write(index, tf.matmul(softmax, negatives))
            softmax = softmax[:, : tf.shape(columns)[0]]
            d_columns += tf.matmul(softmax, row_blocks[index], transpose_a=True)
            return index + 1, total, hits, d_rows, d_columns

        start = [0, tf.zeros([], rows.dtype), 0.0, tf.TensorArray(rows.dtype, n_blocks), tf.zeros_like(columns)]
        _, total, hits, d_rows, d_columns = tf.while_loop(
            lambda index, *_: index < n_blocks, body, start, parallel_iterations=1
        )
        d_rows = tf.reshape(d_rows.stack(), [-1, tf.shape(rows)[1]])[: tf.shape(rows)[0]]
        return (total, hits), lambda d_total, _: (d_total * d_rows, d_total * d_columns)

    return repulsion_and_hits(rows, columns)
