"""Heads on top of h: the projection g of pretraining and the linear classifier of the labels."""

import tf_keras
from tf_keras import layers

from trainer import norms
from trainer.config import HeadConfig

LOGITS = "logits"  # name of the layer that classifies


def projection_head(config: HeadConfig, *, input_dim: int, seed: int) -> tf_keras.Model:
    """The projection g: h → z (arXiv 2002.05709, section 4.2; deeper in 2006.10029, section 2).

    Dense layers without bias, batch norm on every one, ReLU between layers and none after the last; hidden
    layers are as wide as h. z is float32 whatever the policy.

    Args:
        config: kind, depth and output size.
        input_dim: D, the dimensions of h.
        seed: of the initial weights.

    Returns:
        A model from [B, D] to z, [B, `output_dim`], or [B, D] for kind `none`.
    """
    h = layers.Input([input_dim], name="h", dtype="float32")
    z = h
    for layer in range(config.depth):
        is_last = layer == config.depth - 1
        z = layers.Dense(
            config.output_dim if is_last else input_dim,
            use_bias=False,
            kernel_initializer=tf_keras.initializers.GlorotUniform(seed=seed + layer),
            name=f"projection{layer}",
        )(z)
        z = norms.norm("batch", name=f"projection{layer}_norm")(z)
        if not is_last:
            z = layers.ReLU(name=f"projection{layer}_relu")(z)
    return tf_keras.Model(h, layers.Activation("linear", name="z", dtype="float32")(z), name="projection_head")


def first_layers(head: tf_keras.Model, count: int) -> tf_keras.Model:
    """The part of a projection head that fine-tuning keeps (arXiv 2006.10029, section 2.2).

    Args:
        head: as `projection_head` makes it.
        count: of its dense layers, each with its norm, and with its ReLU unless it is the head's last. 0 hands h
            through; v2 keeps 1 for 1% and 10% of the labels.

    Returns:
        A model from h [B, D] to the features after those layers. Its layers are the head's own: tuning it tunes them.

    Raises:
        ValueError: the head has fewer layers.
    """
    denses = [layer for layer in head.layers if isinstance(layer, layers.Dense)]
    if not 0 <= count <= len(denses):
        raise ValueError(
            f"first_layers: count {count} must be 0 … {len(denses)}, the layers of this head; "
            "pretrain with a deeper head, or lower head_layer"
        )
    features = denses[count].input if count < len(denses) else head.output
    return tf_keras.Model(head.input, features, name="head_start")


def classification_head(n_classes: int) -> layers.Dense:
    """A linear classifier of h that starts at zero: the first step depends on the features alone.

    Its logits are float32 whatever the policy.
    """
    return layers.Dense(n_classes, kernel_initializer="zeros", name=LOGITS, dtype="float32")


def kept_layers(head: tf_keras.Model, count: int) -> tf_keras.Model:
    """A copy of a head's first layers with their weights, to be tuned; see `first_layers`."""
    kept = first_layers(tf_keras.models.clone_model(head), count)
    kept.set_weights(first_layers(head, count).get_weights())
    return kept


def classifier_on(encoder: tf_keras.Model, *, n_classes: int, kept: tf_keras.Model | None = None) -> tf_keras.Model:
    """A classifier on top of an encoder, with the kept layers of the projection head between them.

    Args:
        encoder: images → h [B, D].
        n_classes: C.
        kept: h → features; None classifies h itself.

    Returns:
        A model from images to (logits [B, C], h [B, D]); the layer of the logits is called `LOGITS`.
    """
    features = encoder.output
    # Layer by layer, not as a model within the model: in files each weight then has the name of its layer.
    for layer in kept.layers[1:] if kept else ():
        features = layer(features)
    return tf_keras.Model(
        encoder.input, [classification_head(n_classes)(features), encoder.output], name="classifier"
    )
