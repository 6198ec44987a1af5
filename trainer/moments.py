"""A network whose batch norms take their moments from outside, and hand out those of what they see.

That is what lets a batch go through in chunks and still be normalised as a whole: see `gradient_cache`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import tensorflow as tf
import tf_keras
from tf_keras import layers

from trainer import distributed

Pair = tuple[tf.Tensor, tf.Tensor]  # [C] and [C]: mean and variance, or slopes of the loss in them
Moments = list[Pair]  # of each batch norm, in the order of a MomentNetwork


class MomentNetwork:
    """Functional models, one after the other, that share the weights of the originals and leave them as they are.

    Attributes:
        depth: batch norms on the longest path from the images to the output.
    """

    def __init__(self, models: Sequence[tf_keras.Model]) -> None:
        """
        Args:
            models: functional models, the output of each the input of the next.

        Raises:
            ValueError: a batch norm inside of another layer, over other axes than all but the last, or, on several
                replicas, some that are synchronized and some that are not.
        """
        self._norms: list[_SharedNorm] = []
        self._models = [_clone(model, self._share) for model in models]
        self.depth = 0
        for model in self._models:
            self.depth = _longest_path(model, self.depth)
        synchronized = {norm.original.synchronized for norm in self._norms}
        if len(synchronized) > 1 and distributed.replicas() > 1:
            raise ValueError("some batch norms are synchronized over the replicas and some are not: make them alike")
        self._sharing = distributed.replicas() if True in synchronized else 1  # replicas that share their moments

    def _share(self, layer: layers.Layer) -> layers.Layer:
        if isinstance(layer, layers.BatchNormalization) and layer.trainable:
            self._norms.append(_SharedNorm(layer))
            return self._norms[-1]
        if any(isinstance(inner, layers.BatchNormalization) for inner in layer.submodules):
            raise ValueError(
                f"layer {layer.name!r} holds a batch norm inside, whose moments cannot be taken over chunks: "
                "put its layers into the functional model themselves"
            )
        return _SharedLayer(layer)

    def __call__(self, x: tf.Tensor, given: Moments | None) -> tuple[tf.Tensor, Moments]:
        """Runs the network in training mode; no variable changes.

        Args:
            x: input of the first model, [B, ...].
            given: mean and variance to normalise by; None takes those of `x` itself, as a batch norm does.

        Returns:
            The last model's output. And what each batch norm saw: the mean of its input, and the mean square of its
            input about the mean that it normalised by. Gradients flow through both, and into `given`.
        """
        for index, norm in enumerate(self._norms):
            norm.passage.given = given and given[index]
        for model in self._models:
            x = model(x, training=True)
        return x, [norm.passage.seen for norm in self._norms]

    def zeros(self) -> Moments:
        """A zero for each moment."""
        return [tuple(tf.zeros_like(value) for value in pair) for pair in self.moving()]

    def moving(self) -> Moments:
        """The moving statistics, a first guess of the batch's moments."""
        originals = [norm.original for norm in self._norms]
        return [(tf.identity(norm.moving_mean), tf.identity(norm.moving_variance)) for norm in originals]

    def moments(self, seen: Moments, given: Moments) -> Moments:
        """Mean and variance over the global batch.

        The squares were taken about the given mean; the closer that is, the less cancels here. Where the guess is so
        far off that deeper layers overflow, these start again from the standard normal.

        Args:
            seen: average over this replica's chunks of what `__call__` returned.
            given: what it was given.
        """
        exact = []
        for (mean, square), (center, _) in zip(self.over_replicas(self._shares(seen)), given, strict=True):
            variance = tf.maximum(square - tf.square(mean - center), 0)
            sound = tf.math.is_finite(mean) & tf.math.is_finite(variance)
            exact.append((tf.where(sound, mean, 0), tf.where(sound, variance, 1)))
        return exact

    def pull(self, seen: Moments, multipliers: Moments) -> tf.Tensor:
        """Σ λ·s: through it flows what the rest of the batch owes to this replica's share of the moments."""
        terms = [
            tf.reduce_sum(multiplier * share)
            for pairs in zip(multipliers, self._shares(seen), strict=True)
            for multiplier, share in zip(*pairs, strict=True)
        ]
        return tf.add_n(terms) if terms else tf.constant(0.0)

    def over_replicas(self, shares: Moments) -> Moments:
        """The sum of all replicas' shares, where their batch norms are synchronized."""
        return distributed.sum_over_replicas(shares) if self._sharing > 1 else shares

    def _shares(self, seen: Moments) -> Moments:
        return [tuple(value / self._sharing for value in pair) for pair in seen]

    def update_moving(self, moments: Moments, *, rows: int) -> None:
        """Moves the moving statistics once towards the moments, each taken over `rows` inputs."""
        for norm, (mean, variance) in zip(self._norms, moments, strict=True):
            norm.update_moving(mean, variance, rows)


class _SharedLayer(layers.Layer):
    """Calls a layer of another model without becoming a part of that model's graph."""

    def __init__(self, original: layers.Layer) -> None:
        super().__init__(name=original.name, autocast=False)
        self.original = original

    def call(self, *args, **kwargs):
        return self.original(*args, **kwargs)


@dataclass
class _Passage:
    """What a call cannot take and return beside its input and output in a functional model."""

    given: Pair | None = None
    seen: Pair | None = None
    positions: int | None = None


class _SharedNorm(layers.Layer):
    """A batch norm with the weights of another and moments from outside."""

    def __init__(self, original: layers.BatchNormalization) -> None:
        super().__init__(name=original.name, autocast=False)
        if list(original.axis) != [original.input_spec.ndim - 1]:
            raise ValueError(f"batch norm {original.name!r} has axis {original.axis}; only the last is supported")
        self.original = original
        self.passage = _Passage()

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        norm, passage = self.original, self.passage
        x = tf.cast(inputs, norm.moving_mean.dtype)
        axes = list(range(x.shape.rank - 1))
        own_mean = tf.reduce_mean(x, axes)
        center = tf.stop_gradient(passage.given[0] if passage.given else own_mean)
        passage.seen = (own_mean, tf.reduce_mean(tf.square(x - center), axes))
        passage.positions = x.shape[1:-1].num_elements()
        mean, variance = passage.given or passage.seen
        y = tf.nn.batch_normalization(x, mean, variance, norm.beta, norm.gamma, norm.epsilon)
        return tf.cast(y, norm.compute_dtype)

    def update_moving(self, mean: tf.Tensor, variance: tf.Tensor, rows: int) -> None:
        norm = self.original
        if norm.fused:  # the fused kernel's moving variance is the unbiased one, and no other kernel's
            count = rows * self.passage.positions
            variance *= count / (count - 1)
        for moving, value in ((norm.moving_mean, mean), (norm.moving_variance, variance)):
            moving.assign_sub((moving - value) * (1 - norm.momentum))


@tf.autograph.experimental.do_not_convert  # of Keras' own code: it has nothing to convert and takes seconds
def _clone(model: tf_keras.Model, share: Callable[[layers.Layer], layers.Layer]) -> tf_keras.Model:
    return tf_keras.models.clone_model(model, clone_function=share)


def _longest_path(model: tf_keras.Model, start: int) -> int:
    above: dict[str, int] = {}
    for layer in model.layers:  # in topological order
        parents = [parent for node in layer.inbound_nodes for parent in tf.nest.flatten(node.inbound_layers)]
        above[layer.name] = max((above[parent.name] for parent in parents), default=start)
        above[layer.name] += isinstance(layer, _SharedNorm)
    return max(above.values())
