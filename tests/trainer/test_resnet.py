import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from resnet_oracle import Forward, count_parameters
from tensorflow.python.ops.resource_variable_ops import UninitializedVariable

from trainer import distributed, norms, resnet, weights
from trainer.config import EncoderConfig
from trainer.config.presets import STAGE_BLOCKS

TINY = EncoderConfig(stage_blocks=(1, 1), width=4)


def trainable_parameters(encoder):
    return sum(int(np.prod(variable.shape)) for variable in encoder.trainable_variables)


def norms_of_batches(encoder):
    return {layer.name: layer for layer in encoder.layers if isinstance(layer, tf_keras.layers.BatchNormalization)}


@pytest.mark.parametrize(
    ("config", "size_px"),
    [
        (EncoderConfig(), 32),  # the laptop's
        (TINY, 8),
        (EncoderConfig(stage_blocks=(2, 1), width=3, block="bottleneck"), 16),
        (EncoderConfig(stage_blocks=(1,), width=2, block="bottleneck", stem="imagenet"), 16),
        (EncoderConfig(stage_blocks=(1, 2, 1), width=2, stem="small"), 48),
        (EncoderConfig(stage_blocks=(2, 1), width=4, block="bottleneck", stem="imagenet", sk_ratio=0.0625), None),
        (EncoderConfig(stage_blocks=(1, 1), width=30, block="bottleneck", sk_ratio=0.9), 32),  # 0.9 x 60 > 32
    ],
)
def test_encoder_parameters_are_as_many_as_the_oracle_counts(config, size_px):
    encoder = resnet.build_encoder(config, size_px=size_px, seed=0)
    shape = {
        "bottleneck": config.block == "bottleneck",
        "imagenet_stem": config.stem == "imagenet",
        "sk_ratio": config.sk_ratio,
    }
    assert trainable_parameters(encoder) == count_parameters(config.stage_blocks, config.width, **shape)
    with_statistics = count_parameters(config.stage_blocks, config.width, **shape, statistics=True)
    assert encoder.count_params() == with_statistics


def test_encoder_laptop_network_has_308_thousand_parameters_and_128_features():
    encoder = resnet.build_encoder(EncoderConfig(), size_px=32, seed=0)
    assert trainable_parameters(encoder) == 307_536
    assert encoder.output_shape == (None, 128)


def test_encoder_resnet50_has_the_24_million_parameters_of_the_paper():
    config = EncoderConfig(stage_blocks=(3, 4, 6, 3), width=64, block="bottleneck")
    encoder = resnet.build_encoder(config, size_px=224, seed=0)
    assert encoder.output_shape == (None, 2048)
    # torchvision's resnet50 has 25,557,032 parameters, 2,049,000 of them in its classification layer.
    assert trainable_parameters(encoder) == 25_557_032 - 2_049_000


# arXiv 2006.10029, table 1: depth, width, millions of parameters without and with selective kernels.
PUBLISHED_MILLIONS = [
    (50, 1, 24, 35),
    (50, 2, 94, 140),
    (101, 1, 43, 65),
    (101, 2, 170, 257),
    (152, 1, 58, 89),
    (152, 2, 233, 354),
    (152, 3, None, 795),
]


@pytest.mark.parametrize(("depth", "width", "plain", "selective"), PUBLISHED_MILLIONS)
def test_oracle_counts_the_parameters_that_simclr_v2_publishes(depth, width, plain, selective):
    # With the statistics of batch norm, every published number is met to its last digit. Most of these networks are
    # slow to build; the oracle is compared with small ones above and with the largest below.
    for sk_ratio, millions in ((0, plain), (0.0625, selective)):
        if millions is not None:
            count = count_parameters(
                STAGE_BLOCKS[depth],
                64 * width,
                bottleneck=True,
                imagenet_stem=True,
                sk_ratio=sk_ratio,
                statistics=True,
            )
            assert round(count / 1e6) == millions


def without_memory(next_creator, **settings):
    """Makes variables that have a shape and no value: the largest network would hold 3.2 GB."""
    return UninitializedVariable(shape=settings["shape"], dtype=settings["dtype"], name=settings["name"])


@pytest.mark.parametrize(("depth", "width_multiplier", "millions"), [(50, 1, 35), (152, 3, 795)])
def test_resnet_with_selective_kernels_has_the_parameters_that_simclr_v2_publishes(depth, width_multiplier, millions):
    with tf.variable_creator_scope(without_memory):
        encoder = resnet.resnet(depth, width_multiplier=width_multiplier, sk_ratio=0.0625)
    expected = count_parameters(
        STAGE_BLOCKS[depth],
        64 * width_multiplier,
        bottleneck=True,
        imagenet_stem=True,
        sk_ratio=0.0625,
        statistics=True,
    )
    assert encoder.count_params() == expected and round(expected / 1e6) == millions
    assert encoder.output_shape == (None, 2048 * width_multiplier)


@pytest.mark.parametrize(
    ("depth", "cifar_stem", "stem_kernel", "dimensions"),
    [(18, True, 3, 512), (34, None, 7, 512), (50, False, 7, 2048)],
)
def test_resnet_takes_images_of_any_size(depth, cifar_stem, stem_kernel, dimensions):
    with tf.variable_creator_scope(without_memory):
        encoder = resnet.resnet(depth, cifar_stem=cifar_stem)
    assert encoder.input_shape == (None, None, None, 3) and encoder.output_shape == (None, dimensions)
    assert encoder.get_layer("stem_conv").kernel_size == (stem_kernel, stem_kernel)
    blocks = [layer for layer in encoder.layers if layer.name.endswith("_add")]
    assert len(blocks) == sum(STAGE_BLOCKS[depth])


def test_resnet_unknown_depth_is_an_error():
    with pytest.raises(ValueError, match="depth 51"):
        resnet.resnet(51)


def with_random_weights(encoder):
    """Gives every variable a value that its neighbours have not, and returns them by name."""
    generator = np.random.default_rng(0)
    for name, variable in weights.named({"": encoder}).items():
        scale = 0.4 if name.endswith("kernel") else 0.0
        variable.assign(
            generator.normal(0, scale, variable.shape) if scale else generator.uniform(0.5, 1.5, variable.shape)
        )
    return {name: variable.numpy() for name, variable in weights.named({"": encoder}).items()}


@pytest.mark.parametrize("height_px", [12, 15])
@pytest.mark.parametrize(
    "config",
    [
        EncoderConfig(stage_blocks=(1, 2), width=3, stem="small"),
        EncoderConfig(stage_blocks=(1, 1), width=2, block="bottleneck", stem="imagenet"),
        EncoderConfig(stage_blocks=(1, 1), width=4, block="bottleneck", stem="imagenet", sk_ratio=0.0625),
        EncoderConfig(stage_blocks=(1, 2), width=2, block="bottleneck", stem="small", sk_ratio=0.0625),
    ],
    ids=["basic", "bottleneck", "selective", "selective-small-stem"],
)
def test_encoder_gives_the_h_of_the_oracle(config, height_px):
    encoder = resnet.build_encoder(config, size_px=None, seed=0)
    oracle = Forward(
        with_random_weights(encoder),
        blocks=config.stage_blocks,
        bottleneck=config.block == "bottleneck",
        imagenet_stem=config.stem == "imagenet",
        sk=config.sk_ratio > 0,
    )
    images = np.random.default_rng(1).uniform(size=[2, height_px, 14, 3]).astype(np.float32)
    expected = oracle(images)
    assert (expected.max(axis=0) - expected.min(axis=0)).max() > 1e-3, "h that ignores the image would hide faults"
    np.testing.assert_allclose(encoder(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_encoder_gamma_starts_at_zero_in_the_last_norm_of_each_block_only(block):
    encoder = resnet.build_encoder(TINY.model_copy(update={"block": block}), size_px=8, seed=0)
    last = "c" if block == "bottleneck" else "b"
    zero = {name for name, layer in norms_of_batches(encoder).items() if not layer.gamma.numpy().any()}
    assert zero == {f"stage{stage}_block0_{last}_norm" for stage in (0, 1)}
    others = [layer for name, layer in norms_of_batches(encoder).items() if name not in zero]
    assert all((layer.gamma.numpy() == 1).all() and not layer.beta.numpy().any() for layer in others)


@pytest.mark.parametrize("norm", ["batch", "local_batch", "layer", "group"])
@pytest.mark.parametrize("shape", [{}, {"block": "bottleneck"}, {"block": "bottleneck", "sk_ratio": 0.0625}])
def test_encoder_fresh_block_is_the_identity_of_its_shortcut(norm, shape):
    config = EncoderConfig(stage_blocks=(2,), width=4, norm=norm, **shape)
    encoder = resnet.build_encoder(config, size_px=8, seed=0)
    inner = tf_keras.Model(
        encoder.input, [encoder.get_layer(name).output for name in ("stage0_block0_out", "stage0_block1_out")]
    )
    before, after = inner(tf.random.stateless_uniform([2, 8, 8, 3], [0, 1]), training=True)
    assert before.numpy().any()
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    ("stem", "size_px", "kernel", "spatial"),
    [(None, 32, 3, 32), (None, 33, 7, 9), (None, 64, 7, 16), ("small", 64, 3, 64), ("imagenet", 32, 7, 8)],
)
def test_encoder_stem_follows_the_size_unless_it_is_chosen(stem, size_px, kernel, spatial):
    encoder = resnet.build_encoder(EncoderConfig(stage_blocks=(1,), width=2, stem=stem), size_px=size_px, seed=0)
    assert encoder.get_layer("stem_conv").kernel_size == (kernel, kernel)
    assert encoder.get_layer("stage0_block0_out").output_shape[1:3] == (spatial, spatial)


def test_encoder_stride_of_a_bottleneck_sits_in_its_3x3():
    encoder = resnet.build_encoder(EncoderConfig(stage_blocks=(1, 1), width=2, block="bottleneck"), size_px=8, seed=0)
    strides = {name: encoder.get_layer(f"stage1_block0_{name}_conv").strides for name in ("a", "b", "c", "shortcut")}
    assert strides == {"a": (1, 1), "b": (2, 2), "c": (1, 1), "shortcut": (2, 2)}
    assert encoder.get_layer("stage1_block0_b_conv").kernel_size == (3, 3)


def test_encoder_shortcut_of_a_selective_block_pools_before_it_projects():
    config = EncoderConfig(stage_blocks=(1, 1), width=2, block="bottleneck", sk_ratio=0.0625)
    encoder = resnet.build_encoder(config, size_px=8, seed=0)
    strides = {
        name: encoder.get_layer(f"stage1_block0_{name}").strides
        for name in ("a_conv", "b_conv", "b_weigh_conv", "c_conv", "shortcut_pool", "shortcut_conv")
    }
    assert {name for name, stride in strides.items() if stride == (2, 2)} == {"b_conv", "shortcut_pool"}


@pytest.mark.parametrize("norm", ["layer", "group"])
def test_encoder_norm_within_images_gives_an_image_the_same_h_in_any_company(norm):
    config = EncoderConfig(stage_blocks=(1, 1), width=8, block="bottleneck", sk_ratio=0.0625, norm=norm)
    encoder = resnet.build_encoder(config, size_px=8, seed=0)
    layers = [layer for layer in encoder.layers if layer.name.endswith("_norm")]
    assert all(isinstance(layer, norms.GroupNorm) for layer in layers) and not norms_of_batches(encoder)
    # The attention's vector would vanish if each of its channels were a group.
    reduced = encoder.get_layer("stage0_block0_b_reduce_norm")
    assert reduced.groups == 1 and encoder.get_layer("stage0_block0_a_norm").groups == (1 if norm == "layer" else 8)
    images = tf.random.stateless_uniform([3, 8, 8, 3], [0, 1])
    np.testing.assert_allclose(encoder(images, training=True)[:1], encoder(images[:1], training=True), atol=1e-5)


def test_encoder_under_mixed_precision_computes_in_bfloat16_and_keeps_weights_and_h_in_float32():
    config = EncoderConfig(stage_blocks=(1, 1), width=4, block="bottleneck", sk_ratio=0.0625)
    exact = resnet.build_encoder(config, size_px=8, seed=0)
    tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        encoder = resnet.build_encoder(config, size_px=8, seed=0)
    finally:
        tf_keras.mixed_precision.set_global_policy(None)
    images = tf.random.stateless_uniform([4, 8, 8, 3], [0, 1])
    h = encoder(images, training=True)
    assert h.dtype == tf.float32 and {variable.dtype for variable in encoder.variables} == {tf.float32}
    assert encoder.get_layer("stage0_block0_b_select").output.dtype == tf.bfloat16
    difference = np.abs(h - exact(images, training=True)).max()
    assert 0 < difference < 0.1


@pytest.mark.parametrize(
    "flags, dtype",
    [("fma avx2", "float32"), ("avx512f avx512_bf16", "bfloat16"), ("asimd bf16", "bfloat16"), (None, "float32")],
)
def test_convolutions_leave_bfloat16_only_where_the_cpu_would_emulate_it(monkeypatch, tmp_path, flags, dtype):
    info = tmp_path / "cpuinfo"
    if flags:
        info.write_text(f"flags : {flags}")
    monkeypatch.setattr(distributed, "_CPU_INFO", info)
    tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        encoder = resnet.build_encoder(TINY, size_px=8, seed=0)
    finally:
        tf_keras.mixed_precision.set_global_policy(None)
    convolutions = [layer for layer in encoder.layers if isinstance(layer, tf_keras.layers.Conv2D)]
    assert {layer.compute_dtype for layer in convolutions} == {dtype}
    assert {layer.compute_dtype for layer in norms_of_batches(encoder).values()} == {"bfloat16"}
    assert {variable.dtype for variable in encoder.variables} == {tf.float32}


def test_convolutions_follow_floatx_where_nothing_is_mixed():
    tf_keras.backend.set_floatx("float64")
    try:
        encoder = resnet.build_encoder(TINY, size_px=8, seed=0)
    finally:
        tf_keras.backend.set_floatx("float32")
    assert encoder.get_layer("stem_conv").compute_dtype == "float64"


def test_encoder_is_rebuilt_from_its_config():
    config = EncoderConfig(stage_blocks=(1, 1), width=4, block="bottleneck", sk_ratio=0.0625, norm="group")
    encoder = resnet.build_encoder(config, size_px=8, seed=0)
    with_random_weights(encoder)
    again = tf_keras.Model.from_config(encoder.get_config())
    again.set_weights(encoder.get_weights())
    images = tf.random.stateless_uniform([2, 8, 8, 3], [0, 1])
    np.testing.assert_array_equal(again(images), encoder(images))


def test_encoder_convolutions_have_no_bias_and_norms_the_papers_constants():
    encoder = resnet.build_encoder(TINY, size_px=8, seed=0)
    convolutions = [layer for layer in encoder.layers if isinstance(layer, tf_keras.layers.Conv2D)]
    assert len(convolutions) == 6 and not any(layer.use_bias for layer in convolutions)
    assert all((layer.momentum, layer.epsilon) == (0.9, 1e-5) for layer in norms_of_batches(encoder).values())


def test_encoder_kernels_have_the_variance_of_their_fan_out():
    encoder = resnet.build_encoder(EncoderConfig(stage_blocks=(1, 1), width=32), size_px=8, seed=0)
    for layer in encoder.layers:
        if isinstance(layer, tf_keras.layers.Conv2D):
            side, _, _, outputs = layer.kernel.shape
            assert layer.kernel.numpy().std() == pytest.approx((2 / (side * side * outputs)) ** 0.5, rel=0.1)


def test_encoder_seed_decides_every_kernel():
    kernels = [
        [v.numpy() for v in resnet.build_encoder(TINY, size_px=8, seed=seed).trainable_variables if v.shape.rank == 4]
        for seed in (0, 0, 1)
    ]
    for first, again, other in zip(*kernels, strict=True):
        np.testing.assert_array_equal(first, again)
        assert not np.isin(other, first).any()
    # Kernels of one shape in one network differ as well.
    assert not np.array_equal(kernels[0][1], kernels[0][2])


def test_encoder_largest_seed_is_accepted():
    assert resnet.build_encoder(TINY, size_px=8, seed=2**31 - 1).count_params() > 0


def test_encoder_h_is_the_spatial_mean_of_the_last_block():
    encoder = resnet.build_encoder(TINY, size_px=8, seed=0)
    both = tf_keras.Model(encoder.input, [encoder.get_layer("stage1_block0_out").output, encoder.output])
    maps, h = both(tf.random.stateless_uniform([3, 8, 8, 3], [0, 1]))
    np.testing.assert_allclose(h, maps.numpy().mean(axis=(1, 2)), rtol=1e-5)
