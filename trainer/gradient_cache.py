"""The exact step of a large batch on a small device: two passes in chunks (after arXiv 2101.06983).

Accumulating the losses of chunks is not the step of the large batch: a row would never meet the negatives of other
chunks. Here the first pass makes z of the whole batch and keeps no activations, the loss on all z gives dL/dz, and
the second pass runs each chunk again and pulls its dL/dz back to the weights.

Batch norm is a second path between the rows: its moments are those of the whole batch. `exact` treats them as inputs
of the network. Forward, a sweep over the chunks with the moments of the layers below gives those of the next layer.
Backward, the slopes λ = dL/d(moments) of all deeper layers give that of the next higher one: a chunk acts on the loss
through its z and through its share s of every moment, so its surrogate is Σ z·dL/dz + Σ λ·s. Each sweep updates all
layers at once and sets one more level right; after as many as there are batch norms on the longest path, all are.
"""

from collections.abc import Callable
from typing import Any, Literal

import tensorflow as tf
import tf_keras

from trainer import distributed
from trainer.moments import MomentNetwork, Moments

Views = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
Loss = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, ...]]


class GradientCache:
    """Loss and gradients of a batch in chunks of images; both views of an image are in the same chunk.

    Memory: the activations of one chunk, z of the batch, and the loss on it. Time, in forward passes of the whole
    batch, where a plain step costs 3: 4 without batch norm or with `per_chunk`; with `exact` and D batch norms on the
    longest path, D more before and 3·D more after. A ResNet-18 with a two-layer head has D = 19 and takes about 27
    times as long as a plain step: exact batch norm in chunks is for small networks, and to judge `per_chunk` by.

    On several replicas each takes its own rows in chunks; loss and moments are those of the global batch.

    Attributes:
        sweeps: D, or 0 where batch norm needs none.
    """

    def __init__(
        self,
        encoder: tf_keras.Model,
        head: tf_keras.Model,
        *,
        chunk_size: int,
        batch_norm: Literal["exact", "per_chunk"] = "exact",
    ) -> None:
        """
        Args:
            encoder: functional model of images.
            head: functional model of the encoder's output.
            chunk_size: images at once on each replica.
            batch_norm: normalise by the moments of the whole batch, or of each chunk on its replica. The latter is
                another function than the whole batch's; its moving statistics follow the mean of the chunks' moments.
                Networks without batch norm take the exact step either way.

        Raises:
            ValueError: see `MomentNetwork`.
        """
        self._network = MomentNetwork([encoder, head])
        self._variables = encoder.trainable_variables + head.trainable_variables
        self._chunk_size = chunk_size
        self._exact = batch_norm == "exact"
        self.sweeps = self._network.depth if self._exact else 0

    def chunk(self, x: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
        """The rows of a chunk, [chunk_size, ...], out of those of a batch, in a form that XLA can compile.

        Args:
            x: [n_images, ...], such as the stored images or their keys.
            first: index of the chunk's first row, as `views` gets it.
        """
        return tf.slice(x, [first] + [0] * (x.shape.rank - 1), [self._chunk_size, *x.shape[1:]])

    def project(self, views: Views, n_images: int) -> tuple[tf.Tensor, tf.Tensor]:
        """z of both views of the whole batch, without gradients; no variable changes.

        Args:
            views: given the index of a chunk's first image on this replica, the two views [chunk_size, ...] of the
                chunk's images, made from `chunk` of what the batch holds. It is called in every sweep, and must
                return the same each time.
            n_images: of this replica, a multiple of the chunk size.

        Returns:
            z_a and z_b, [n_images, D], float32 or float64.
        """
        return self._project(views, self._chunks(n_images))[:2]

    def gradients(self, views: Views, n_images: int, loss: Loss) -> tuple[tuple[tf.Tensor, ...], list[tf.Tensor]]:
        """One step's loss and gradients; the moving statistics of batch norms move once.

        Args:
            views: see `project`.
            n_images: see `project`.
            loss: given z_a and z_b, [n_images, D], the loss and whatever else it returns. On several replicas it
                returns the replica's part of the loss.

        Returns:
            What `loss` returned, and the gradients in the order of the encoder's and the head's trainable variables.
        """
        n_chunks = self._chunks(n_images)
        z_a, z_b, given, seen = self._project(views, n_chunks)
        with tf.GradientTape() as tape:
            tape.watch([z_a, z_b])
            results = loss(z_a, z_b)
        slopes = tape.gradient(results[0], [z_a, z_b])
        multipliers = self._network.zeros()
        if given is not None:

            def one_level_up(multipliers: Moments) -> Moments:
                shares = self._pull(views, n_chunks, given, slopes, multipliers, toward_weights=False)
                return self._network.over_replicas(shares)

            multipliers = _repeat(one_level_up, multipliers, self.sweeps)
        gradients = self._pull(views, n_chunks, given, slopes, multipliers, toward_weights=True)
        if given is None:
            self._network.update_moving(seen, rows=2 * self._chunk_size)
        else:
            self._network.update_moving(given, rows=2 * n_images)
        return results, gradients

    def _chunks(self, n_images: int) -> int:
        if n_images % self._chunk_size:
            raise ValueError(
                f"chunk_size {self._chunk_size} must divide the {n_images} images of a replica: "
                "choose another chunk size or batch size"
            )
        return n_images // self._chunk_size

    def _project(self, views: Views, n_chunks: int) -> tuple[tf.Tensor, tf.Tensor, Moments | None, Moments]:
        """z of the batch, the moments by which it was normalised, or None for each chunk's, and the mean of those."""
        given = None
        if self._exact:

            def one_level_down(given: Moments) -> Moments:
                _, seen = self._forward(views, n_chunks, given)
                return self._network.moments(seen, given)

            given = _repeat(one_level_down, self._network.moving(), self.sweeps)
        z, seen = self._forward(views, n_chunks, given)
        z_a, z_b = (tf.reshape(z[:, view], [n_chunks * self._chunk_size, z.shape[-1]]) for view in (0, 1))
        return z_a, z_b, given, seen

    def _forward(self, views: Views, n_chunks: int, given: Moments | None) -> tuple[tf.Tensor, Moments]:
        """z, [chunks, 2, chunk_size, D], and the mean over the chunks of what the norms saw."""

        def body(index: tf.Tensor, state: tuple[tf.TensorArray, Moments]) -> tuple[tf.TensorArray, Moments]:
            z, seen = self._run_chunk(views(index * self._chunk_size), given)
            return state[0].write(index, z), _add(state[1], seen, weight=1 / n_chunks)

        dtype = self._variables[0].dtype
        z, seen = _for_each(n_chunks, body, (tf.TensorArray(dtype, n_chunks), self._network.zeros()))
        return z.stack(), seen

    def _pull(
        self,
        views: Views,
        n_chunks: int,
        given: Moments | None,
        slopes: list[tf.Tensor],
        multipliers: Moments,
        *,
        toward_weights: bool,
    ) -> Any:
        """Gradient of Σ z·dL/dz + Σ λ·s, over this replica's chunks: by the weights, or by the given moments."""
        slopes = [tf.reshape(slope, [n_chunks, self._chunk_size, slope.shape[-1]]) for slope in slopes]

        def body(index: tf.Tensor, total: Any) -> Any:
            chunk_views = views(index * self._chunk_size)
            with tf.GradientTape() as tape:
                # A tensor from outside of the loop's body is another one inside: the tape must watch that one.
                local = given and [(tf.identity(mean), tf.identity(variance)) for mean, variance in given]
                tape.watch(local or [])
                z, seen = self._run_chunk(chunk_views, local)
                surrogate = sum(tf.reduce_sum(z[view] * slopes[view][index]) for view in (0, 1))
                surrogate += tf.cast(self._network.pull(seen, multipliers) / n_chunks, z.dtype)
            sources = self._variables if toward_weights else local
            return _add(total, tape.gradient(surrogate, sources, unconnected_gradients="zero"))

        zeros = [tf.zeros_like(variable) for variable in self._variables] if toward_weights else self._network.zeros()
        return _for_each(n_chunks, body, zeros)

    def _run_chunk(self, views: tuple[tf.Tensor, tf.Tensor], given: Moments | None) -> tuple[tf.Tensor, Moments]:
        z, seen = self._network(tf.concat(views, axis=0), given)
        z = tf.cast(z, self._variables[0].dtype)
        return tf.reshape(z, [2, self._chunk_size, z.shape[-1]]), seen


def _add(total: Any, share: Any, *, weight: float = 1.0) -> Any:
    return tf.nest.map_structure(lambda x, y: x + weight * y, total, share)


def _for_each(n_chunks: int, body: Callable[[tf.Tensor, Any], Any], state: Any) -> Any:
    """A loop of the graph, one chunk after the other: unrolled, all chunks' activations could live at once."""
    _, state = tf.while_loop(
        lambda index, _: index < n_chunks,
        lambda index, state: (index + 1, body(index, state)),
        (tf.constant(0), state),
        parallel_iterations=1,
    )
    return state


def _repeat(sweep: Callable[[Moments], Moments], moments: Moments, times: int) -> Moments:
    """Applies a sweep several times: unrolled on several replicas, which cannot exchange values inside of a loop."""
    if times < 2 or distributed.replicas() > 1:
        for _ in range(times):
            moments = sweep(moments)
        return moments
    return _for_each(times, lambda _, moments: sweep(moments), moments)
