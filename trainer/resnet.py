"""ResNet encoders: images [B, H, W, 3] in [0, 1] → h, the global average pool (arXiv 1512.03385).

γ of each block's last norm starts at 0, so that a block starts as the identity; convolutions have no bias; the
stride of a bottleneck sits in its 3x3. Where a convolution has a stride, its input is padded by the kernel alone and
not, as `same` does, by the size of the image: that is how the authors' weights were trained.
"""

import tf_keras
from tf_keras import layers

from trainer import distributed, norms
from trainer import selective_kernels as sk
from trainer.config import EncoderConfig
from trainer.config.presets import encoder_of_depth

_BOTTLENECK_EXPANSION = 4
_SMALL_STEM_UP_TO_PX = 32  # arXiv 2002.05709, appendix B.9
_SK_MIN_CHANNELS = 32  # arXiv 1903.06586, section 3.1
_SEED_STRIDE = 100_003


def resnet(
    depth: int,
    *,
    width_multiplier: int = 1,
    sk_ratio: float = 0.0,
    cifar_stem: bool | None = None,
    seed: int = 0,
) -> tf_keras.Model:
    """A standard ResNet without its classification layer (arXiv 2006.10029, table 1).

    Args:
        depth: 18, 34, 50, 101, 152 or 200.
        width_multiplier: of all channels; 1 … 4 in the papers.
        sk_ratio: of selective kernels, 0.0625 in v2, with ResNet-D; 0 for none. Depth 50 and more.
        cifar_stem: 3x3 stride 1 without max-pool, for images up to 32 px. None is False: this network is built for
            images of any size, so that no size can choose.
        seed: of the initial weights.

    Returns:
        A model from [B, H, W, 3] in [0, 1], any H and W, to h float32 [B, D]: D is 512 x `width_multiplier`, and
        four times as much from depth 50 on.

    Raises:
        ValueError: another depth, or selective kernels in basic blocks.
    """
    config = encoder_of_depth(
        depth, width_multiplier=width_multiplier, sk_ratio=sk_ratio, cifar_stem=bool(cifar_stem)
    )
    return build_encoder(config, size_px=None, seed=seed)


def build_encoder(config: EncoderConfig, *, size_px: int | None, seed: int) -> tf_keras.Model:
    """The encoder f.

    It computes in Keras' global policy and keeps h in float32. Under mixed_bfloat16 on CPUs that would emulate it,
    the convolutions compute in float32 what the layers between them leave in bfloat16. The strategy in whose scope
    this is called decides that, and what the norms need.

    Args:
        config: of the network.
        size_px: side of the images, or None for images of any height and width; a stem of None is then `imagenet`.
        seed: of the initial weights.

    Returns:
        A model from float32 [B, size, size, 3] in [0, 1] to h float32 [B, D].
    """
    builder = _Builder(config, seed)
    images = layers.Input([size_px, size_px, 3], name="images", dtype="float32")
    x = builder.stem(images, stem_kind(config, size_px))
    for stage, n_blocks in enumerate(config.stage_blocks):
        filters = config.width * 2**stage
        for block in range(n_blocks):
            stride = 2 if block == 0 and stage > 0 else 1
            x = builder.block(x, filters, stride=stride, name=f"stage{stage}_block{block}")
    h = layers.GlobalAveragePooling2D(name="h", dtype="float32")(x)
    return tf_keras.Model(images, h, name="encoder")


def stem_kind(config: EncoderConfig, size_px: int | None) -> str:
    """`small` or `imagenet`: what the configuration says, else what the images' size asks for, if it is known."""
    small = size_px is not None and size_px <= _SMALL_STEM_UP_TO_PX
    return config.stem or ("small" if small else "imagenet")


class _Builder:
    """Appends the parts of one network, each kernel with a seed of its own."""

    def __init__(self, config: EncoderConfig, seed: int) -> None:
        self._config = config
        self._next_seed = seed * _SEED_STRIDE
        halves = tf_keras.mixed_precision.global_policy().compute_dtype == "bfloat16"
        self._convolution_policy = "float32" if halves and distributed.emulates_bfloat16() else None

    def stem(self, x, kind: str):
        width = self._config.width
        if kind == "small":
            return self._conv_norm(x, width, 3, name="stem")
        if self._config.sk_ratio:
            x = self._conv_norm(x, -(-width // 2), 3, stride=2, name="stem_a")
            x = self._conv_norm(x, -(-width // 2), 3, name="stem_b")
            x = self._conv_norm(x, width, 3, name="stem_c")
        else:
            x = self._conv_norm(x, width, 7, stride=2, name="stem")
        return layers.MaxPooling2D(3, strides=2, padding="same", name="stem_pool")(x)

    def block(self, x, filters: int, *, stride: int, name: str):
        is_bottleneck = self._config.block == "bottleneck"
        outputs = filters * _BOTTLENECK_EXPANSION if is_bottleneck else filters
        shortcut = x
        if stride > 1 or x.shape[-1] != outputs:
            shortcut = self._shortcut(x, outputs, stride=stride, name=f"{name}_shortcut")
        if is_bottleneck:
            y = self._conv_norm(x, filters, 1, name=f"{name}_a")
            middle = self._selective_conv_norm if self._config.sk_ratio else self._conv_norm
            y = middle(y, filters, 3, stride=stride, name=f"{name}_b")
            y = self._conv_norm(y, outputs, 1, relu=False, last=True, name=f"{name}_c")
        else:
            y = self._conv_norm(x, filters, 3, stride=stride, name=f"{name}_a")
            y = self._conv_norm(y, outputs, 3, relu=False, last=True, name=f"{name}_b")
        return layers.ReLU(name=f"{name}_out")(layers.Add(name=f"{name}_add")([shortcut, y]))

    def _shortcut(self, x, outputs: int, *, stride: int, name: str):
        if not self._config.sk_ratio:
            return self._conv_norm(x, outputs, 1, stride=stride, relu=False, name=name)
        # ResNet-D: the pool sees every pixel, of which a 1x1 with a stride drops three in four (arXiv 1812.01187).
        if stride > 1:
            x = _pad(x, 2, name=name)
        x = layers.AveragePooling2D(
            2, strides=stride, padding="valid" if stride > 1 else "same", name=f"{name}_pool"
        )(x)
        return self._conv_norm(x, outputs, 1, relu=False, name=name)

    def _selective_conv_norm(self, x, filters: int, kernel: int, *, stride: int, name: str):
        branches = self._conv_norm(x, sk.BRANCHES * filters, kernel, stride=stride, name=name)
        pooled = sk.PooledBranches(name=f"{name}_pool")(branches)
        channels = max(int(filters * self._config.sk_ratio), _SK_MIN_CHANNELS)
        # A group of one channel of one pixel has no variance: such vectors are normalised as a whole.
        kind = "layer" if self._config.norm == "group" else self._config.norm
        reduced = self._conv_norm(pooled, channels, 1, kind=kind, name=f"{name}_reduce")
        logits = self._conv(reduced, sk.BRANCHES * filters, 1, name=f"{name}_weigh")
        return sk.SelectedBranches(name=f"{name}_select")([branches, logits])

    def _conv_norm(
        self,
        x,
        filters: int,
        kernel: int,
        *,
        stride: int = 1,
        relu: bool = True,
        last: bool = False,
        kind: str | None = None,
        name: str,
    ):
        x = self._conv(x, filters, kernel, stride=stride, name=name)
        x = norms.norm(kind or self._config.norm, last=last, name=f"{name}_norm")(x)
        return layers.ReLU(name=f"{name}_relu")(x) if relu else x

    def _conv(self, x, filters: int, kernel: int, *, stride: int = 1, name: str):
        if stride > 1 and kernel > 1:
            x = _pad(x, kernel, name=name)
        self._next_seed += 1
        return layers.Conv2D(
            filters,
            kernel,
            strides=stride,
            padding="same" if stride == 1 else "valid",
            use_bias=False,
            kernel_initializer=tf_keras.initializers.VarianceScaling(
                scale=2.0, mode="fan_out", distribution="truncated_normal", seed=self._next_seed
            ),
            dtype=self._convolution_policy,
            name=f"{name}_conv",
        )(x)


def _pad(x, kernel: int, *, name: str):
    before, after = (kernel - 1) // 2, kernel // 2
    return layers.ZeroPadding2D(((before, after), (before, after)), name=f"{name}_pad")(x)
