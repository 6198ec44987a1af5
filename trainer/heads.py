"""Heads on top of h: the projection g of pretraining and the linear classifier of the labels."""

import tf_keras
from tf_keras import layers

from trainer.config import HeadConfig


def projection_head(config: HeadConfig, *, input_dim: int, seed: int) -> tf_keras.Model:
    """The projection g: h → z (arXiv 2002.05709, section 4.2; deeper in 2006.10029, section 2).

    Dense layers without bias, batch norm on every one, ReLU between layers and none after the last; hidden
    layers are as wide as h.

    Args:
        config: kind, depth and output size.
        input_dim: D, the dimensions of h.
        seed: of the initial weights.

    Returns:
        A model from [B, D] to z, [B, `output_dim`], or [B, D] for kind `none`.
    """
    h = layers.Input([input_dim], name="h")
    n_layers = {"none": 0, "linear": 1, "nonlinear": config.layers}[config.kind]
    z = h
    for layer in range(n_layers):
        is_last = layer == n_layers - 1
        z = layers.Dense(
            config.output_dim if is_last else input_dim,
            use_bias=False,
            kernel_initializer=tf_keras.initializers.GlorotUniform(seed=seed + layer),
            name=f"projection{layer}",
        )(z)
        z = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"projection{layer}_norm")(z)
        if not is_last:
            z = layers.ReLU(name=f"projection{layer}_relu")(z)
    return tf_keras.Model(h, z, name="projection_head")


def classification_head(n_classes: int) -> layers.Dense:
    """A linear classifier of h that starts at zero: the first step depends on the features alone."""
    return layers.Dense(n_classes, kernel_initializer="zeros", name="logits")
