import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from resnet_oracle import count_parameters

from trainer import resnet
from trainer.config import EncoderConfig

TINY = EncoderConfig(stage_blocks=(1, 1), width=4)


def trainable_parameters(encoder):
    return sum(int(np.prod(variable.shape)) for variable in encoder.trainable_variables)


def norms(encoder):
    return {layer.name: layer for layer in encoder.layers if isinstance(layer, tf_keras.layers.BatchNormalization)}


@pytest.mark.parametrize(
    ("config", "size_px"),
    [
        (EncoderConfig(), 32),  # the laptop's
        (TINY, 8),
        (EncoderConfig(stage_blocks=(2, 1), width=3, block="bottleneck"), 16),
        (EncoderConfig(stage_blocks=(1,), width=2, block="bottleneck", stem="imagenet"), 16),
        (EncoderConfig(stage_blocks=(1, 2, 1), width=2, stem="small"), 48),
    ],
)
def test_encoder_parameters_are_as_many_as_the_oracle_counts(config, size_px):
    encoder = resnet.build_encoder(config, size_px=size_px, seed=0)
    expected = count_parameters(
        config.stage_blocks,
        config.width,
        bottleneck=config.block == "bottleneck",
        imagenet_stem=config.stem == "imagenet",
    )
    assert trainable_parameters(encoder) == expected
    statistics = sum(2 * layer.gamma.shape[0] for layer in norms(encoder).values())
    assert encoder.count_params() == expected + statistics


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


@pytest.mark.parametrize(
    ("blocks", "width", "millions"),
    [((3, 4, 6, 3), 64, 24), ((3, 4, 6, 3), 128, 94), ((3, 4, 23, 3), 64, 43), ((3, 8, 36, 3), 128, 233)],
)
def test_oracle_counts_the_parameters_that_simclr_v2_publishes(blocks, width, millions):
    # arXiv 2006.10029, table 1, rounded there: the oracle is right about networks that are slow to build, too.
    count = count_parameters(blocks, width, bottleneck=True, imagenet_stem=True)
    assert count / 1e6 == pytest.approx(millions, abs=1)


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_encoder_gamma_starts_at_zero_in_the_last_norm_of_each_block_only(block):
    encoder = resnet.build_encoder(TINY.model_copy(update={"block": block}), size_px=8, seed=0)
    last = "c" if block == "bottleneck" else "b"
    zero = {name for name, layer in norms(encoder).items() if not layer.gamma.numpy().any()}
    assert zero == {f"stage{stage}_block0_{last}_norm" for stage in (0, 1)}
    others = [layer for name, layer in norms(encoder).items() if name not in zero]
    assert all((layer.gamma.numpy() == 1).all() and not layer.beta.numpy().any() for layer in others)


def test_encoder_fresh_block_is_the_identity_of_its_shortcut():
    encoder = resnet.build_encoder(EncoderConfig(stage_blocks=(2,), width=4), size_px=8, seed=0)
    inner = tf_keras.Model(
        encoder.input, [encoder.get_layer(name).output for name in ("stem_relu", "stage0_block1_out")]
    )
    before, after = inner(tf.random.stateless_uniform([2, 8, 8, 3], [0, 1]))
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


def test_encoder_convolutions_have_no_bias_and_norms_the_papers_constants():
    encoder = resnet.build_encoder(TINY, size_px=8, seed=0)
    convolutions = [layer for layer in encoder.layers if isinstance(layer, tf_keras.layers.Conv2D)]
    assert len(convolutions) == 6 and not any(layer.use_bias for layer in convolutions)
    assert all((layer.momentum, layer.epsilon) == (0.9, 1e-5) for layer in norms(encoder).values())


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
