"""ResNet encoders: images [B, H, W, 3] in [0, 1] → h, the global average pool (arXiv 1512.03385).

γ of each block's last batch norm starts at 0, so that a block starts as the identity; convolutions have no bias;
the stride of a bottleneck sits in its 3×3.
"""

import tf_keras
from tf_keras import layers

from trainer.config import EncoderConfig

_BATCH_NORM_MOMENTUM = 0.9
_BATCH_NORM_EPSILON = 1e-5
_BOTTLENECK_EXPANSION = 4
_SMALL_STEM_UP_TO_PX = 32  # arXiv 2002.05709, appendix B.9


def build_encoder(config: EncoderConfig, *, size_px: int, seed: int) -> tf_keras.Model:
    """The encoder f.

    Args:
        config: of the network.
        size_px: side of the images.
        seed: of the initial weights.

    Returns:
        A model from float32 [B, size, size, 3] in [0, 1] to h float32 [B, D].
    """
    initializer = _SeededInitializer(seed)
    images = layers.Input([size_px, size_px, 3], name="images")
    stem = config.stem or ("small" if size_px <= _SMALL_STEM_UP_TO_PX else "imagenet")
    x = _stem(images, stem, config.width, initializer)
    for stage, n_blocks in enumerate(config.stage_blocks):
        filters = config.width * 2**stage
        for block in range(n_blocks):
            stride = 2 if block == 0 and stage > 0 else 1
            x = _block(x, filters, config, stride=stride, initializer=initializer, name=f"stage{stage}_block{block}")
    h = layers.GlobalAveragePooling2D(name="h")(x)
    return tf_keras.Model(images, h, name="encoder")


class _SeededInitializer:
    """Variance-scaling initializers, each with a seed of its own drawn from one."""

    def __init__(self, seed: int) -> None:
        self._next = seed * 100_003

    def __call__(self) -> tf_keras.initializers.Initializer:
        self._next += 1
        return tf_keras.initializers.VarianceScaling(
            scale=2.0, mode="fan_out", distribution="truncated_normal", seed=self._next
        )


def _stem(x, stem: str, width: int, initializer: _SeededInitializer):
    if stem == "small":
        return _conv_norm(x, width, 3, initializer=initializer, name="stem")
    x = _conv_norm(x, width, 7, stride=2, initializer=initializer, name="stem")
    return layers.MaxPooling2D(3, strides=2, padding="same", name="stem_pool")(x)


def _block(x, filters: int, config: EncoderConfig, *, stride: int, initializer: _SeededInitializer, name: str):
    expansion = _BOTTLENECK_EXPANSION if config.block == "bottleneck" else 1
    outputs = filters * expansion
    shortcut = x
    if stride > 1 or x.shape[-1] != outputs:
        shortcut = _conv_norm(
            x, outputs, 1, stride=stride, relu=False, initializer=initializer, name=f"{name}_shortcut"
        )
    if config.block == "bottleneck":
        y = _conv_norm(x, filters, 1, initializer=initializer, name=f"{name}_a")
        y = _conv_norm(y, filters, 3, stride=stride, initializer=initializer, name=f"{name}_b")
        y = _conv_norm(y, outputs, 1, relu=False, last=True, initializer=initializer, name=f"{name}_c")
    else:
        y = _conv_norm(x, filters, 3, stride=stride, initializer=initializer, name=f"{name}_a")
        y = _conv_norm(y, outputs, 3, relu=False, last=True, initializer=initializer, name=f"{name}_b")
    return layers.ReLU(name=f"{name}_out")(layers.Add(name=f"{name}_add")([shortcut, y]))


def _conv_norm(
    x,
    filters: int,
    kernel: int,
    *,
    stride: int = 1,
    relu: bool = True,
    last: bool = False,
    initializer: _SeededInitializer,
    name: str,
):
    x = layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer=initializer(),
        name=f"{name}_conv",
    )(x)
    x = layers.BatchNormalization(
        momentum=_BATCH_NORM_MOMENTUM,
        epsilon=_BATCH_NORM_EPSILON,
        gamma_initializer="zeros" if last else "ones",
        name=f"{name}_norm",
    )(x)
    return layers.ReLU(name=f"{name}_relu")(x) if relu else x
