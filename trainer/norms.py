"""Normalisation: over the global batch, over each replica's share of shuffled samples, or within each image."""

import tensorflow as tf
import tf_keras
from tf_keras import layers

from trainer import distributed, prng

_MOMENTUM = 0.9
_EPSILON = 1e-5
_MAX_GROUPS = 32  # arXiv 1803.08494, section 3.2
_KINDS = ("batch", "local_batch", "layer", "group")
_SHUFFLE_STREAM = 0x5AFF1E  # keeps these random numbers apart from those of the views


def norm(kind: str, *, last: bool = False, name: str) -> layers.Layer:
    """A normalisation layer over the last axis' channels, with one γ and β a channel.

    The strategy in whose scope this is called decides whether `batch` synchronizes its moments between replicas: on
    one replica the fused op does the same faster. The fused op's moving variance divides by n - 1 and the
    synchronized one's by n = images x height x width, as Keras has it; what training normalises by is the same.

    Args:
        kind: `batch`, moments over the global batch; `local_batch`, over the images of one replica (between
            `shuffle_samples` and `unshuffle_samples`); `layer`, over each image; `group`, over groups of each
            image's channels.
        last: whether it ends a residual block, where γ starts at 0 and the block as the identity.
        name: of the layer.

    Raises:
        ValueError: another kind.
    """
    gamma = "zeros" if last else "ones"
    if kind in ("batch", "local_batch"):
        return layers.BatchNormalization(
            momentum=_MOMENTUM,
            epsilon=_EPSILON,
            gamma_initializer=gamma,
            synchronized=kind == "batch" and distributed.replicas() > 1,
            name=name,
        )
    if kind in ("layer", "group"):
        max_groups = 1 if kind == "layer" else _MAX_GROUPS
        return GroupNorm(max_groups, epsilon=_EPSILON, gamma_initializer=gamma, name=name)
    raise ValueError(f"norm {kind!r}: must be one of {_KINDS}")


@tf_keras.utils.register_keras_serializable("simclr")
class GroupNorm(layers.Layer):
    """Group normalisation (arXiv 1803.08494), moments in float32 whatever the compute type; one group: layer norm."""

    def __init__(self, max_groups: int, *, epsilon: float = _EPSILON, gamma_initializer="ones", **kwargs) -> None:
        """
        Args:
            max_groups: the channels are cut into as many equal groups as this allows.
            epsilon: added to the variance.
            gamma_initializer: of the scale.
            kwargs: of any layer.
        """
        super().__init__(**kwargs)
        self.max_groups = max_groups
        self.epsilon = epsilon
        self.gamma_initializer = tf_keras.initializers.get(gamma_initializer)

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes γ and β, float32 [C]."""
        channels = int(input_shape[-1])
        self.groups = max(n for n in range(1, self.max_groups + 1) if channels % n == 0)
        self.gamma = self._parameter("gamma", channels, self.gamma_initializer)
        self.beta = self._parameter("beta", channels, "zeros")
        super().build(input_shape)

    def _parameter(self, name: str, channels: int, initializer) -> tf.Variable:
        dtype = tf.as_dtype(self.variable_dtype)
        return self.add_weight(name, [channels], dtype, initializer, experimental_autocast=False)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """[B, ..., C] → the same shape and type."""
        shape = tf.shape(x)
        grouped = tf.reshape(tf.cast(x, self.gamma.dtype), [shape[0], -1, self.groups, x.shape[-1] // self.groups])
        mean, variance = tf.nn.moments(grouped, axes=[1, 3], keepdims=True)
        normalised = (grouped - mean) * tf.math.rsqrt(variance + self.epsilon)
        scaled = tf.reshape(normalised, shape) * self.gamma + self.beta
        return tf.ensure_shape(tf.cast(scaled, x.dtype), x.shape)

    def get_config(self) -> dict:
        """What `from_config` needs."""
        return {
            **super().get_config(),
            "max_groups": self.max_groups,
            "epsilon": self.epsilon,
            "gamma_initializer": tf_keras.initializers.serialize(self.gamma_initializer),
        }


def shuffle_samples(x: tf.Tensor, *, seed: int, step: int | tf.Tensor) -> tf.Tensor:
    """Deals the samples of all replicas out anew, so that no replica's batch norm can tell a pair by its company.

    Without it the moments of a replica's share leak which images came together (arXiv 2002.05709, section 2.2;
    1911.05722, section 3.3). Called in every replica, with shares of one size. On one replica a new order changes no
    moment: x is returned as it is.

    Args:
        x: [b, ...], this replica's samples.
        seed: of the run, 0 … 2³²−1.
        step: of the training, below 2³².

    Returns:
        [b, ...], this replica's share of a permutation of all samples; the gradient flows back to their owners.
    """
    return _deal(x, seed, step, inverse=False)


def unshuffle_samples(x: tf.Tensor, *, seed: int, step: int | tf.Tensor) -> tf.Tensor:
    """Undoes `shuffle_samples` of the same seed and step: each sample's result returns to the replica it came from.

    Args:
        x: [b, ...], results for this replica's share of the permutation.
        seed: as given to `shuffle_samples`.
        step: as given to `shuffle_samples`.

    Returns:
        [b, ...], the results for this replica's own samples, in their order.
    """
    return _deal(x, seed, step, inverse=True)


def _deal(x: tf.Tensor, seed: int, step: int | tf.Tensor, *, inverse: bool) -> tf.Tensor:
    replicas = distributed.replicas()
    if replicas == 1:
        return x
    share = x.shape[0] if x.shape[0] is not None else tf.shape(x)[0]
    order = sample_order(share * replicas, seed=seed, step=step)
    if inverse:
        order = tf.argsort(order)
    own = distributed.replica_id() * share + tf.range(share)
    return tf.gather(distributed.gather(x), tf.gather(order, own))


def sample_order(count: int | tf.Tensor, *, seed: int, step: int | tf.Tensor) -> tf.Tensor:
    """The permutation behind `shuffle_samples`: the same on every replica, in eager mode, in graphs and under XLA.

    Args:
        count: n, of all replicas' samples.
        seed: of the run, 0 … 2³²−1.
        step: of the training, below 2³².

    Returns:
        int32 [n]: the sample that comes first, second, …
    """
    run_key = tf.constant([seed & 0xFFFFFFFF, _SHUFFLE_STREAM], tf.uint32)
    key = prng.threefry2x32(run_key, prng.split_int64(tf.cast(step, tf.int64)))
    return tf.argsort(prng.uniform(key[None], count=count, stream=0)[0], stable=True)
