"""What SimCLR v2 adds to the stages, and what makes a large batch fit."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from example_files import class_images, write_examples

from trainer import data, heads, loop, resnet, stages, views
from trainer.config import (
    AugmentConfig,
    ComputeConfig,
    CropConfig,
    EncoderConfig,
    GradientCacheConfig,
    HeadConfig,
    MemoryConfig,
    OptimizerConfig,
    PretrainConfig,
)
from trainer.gradient_cache import GradientCache
from trainer.memory import Memory

TINY = EncoderConfig(stage_blocks=(1,), width=4)
LABELS = [index % 4 for index in range(16)]
CROP = AugmentConfig(crop=CropConfig(min_area=0.8), jitter_strength=0.0, grayscale_probability=0.0)
SGD = OptimizerConfig(name="sgd", learning_rate=0.05, decay="constant")

pytestmark = [
    pytest.mark.usefixtures("compile_views_once"),
    pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`:UserWarning"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_examples(tmp_path_factory.mktemp("v2") / "examples", class_images(LABELS), labels=LABELS)


def config_of(**settings):
    defaults = {
        "encoder": TINY,
        "head": HeadConfig(output_dim=8),
        "augment": CROP,
        "batch_size": 8,
        "epochs": 2,
        "optimizer": SGD,
    }
    return PretrainConfig(**defaults | settings)


def pretrain(files, **settings):
    return stages.pretrain(config_of(**settings), files, seed=1)


@pytest.fixture(scope="module")
def plain(files):
    return pretrain(files)


def first_step(trained):
    """Loss and gradient norm; later steps amplify the rounding of float32, and float64 is in the losses' tests."""
    return [trained.history.rows[0][name] for name in ("loss", "gradient_norm")]


@pytest.mark.parametrize(
    "settings",
    [
        {"gradient_cache": GradientCacheConfig(chunk_size=2), "compute": ComputeConfig(jit_compile=True)},
        {"similarity_block_rows": 4},
    ],
    ids=["chunks compiled by XLA", "blocks"],
)
def test_pretrain_in_pieces_takes_the_steps_of_the_whole_batch(files, plain, settings):
    assert first_step(pretrain(files, epochs=1, **settings)) == pytest.approx(first_step(plain), rel=1e-3)


def test_pretrain_chunks_with_batch_norms_of_their_own_take_other_steps(files, plain):
    other = pretrain(files, epochs=1, gradient_cache=GradientCacheConfig(chunk_size=2, batch_norm="per_chunk"))
    assert first_step(other) != pytest.approx(first_step(plain), rel=0.01)


@pytest.mark.parametrize(("norm", "sweeps"), [("batch", 5), ("layer", 2), ("group", 2)])
def test_pretrain_chunks_sweep_once_for_each_batch_norm_on_the_way_to_z(norm, sweeps):
    """The stem's, two of the block and two of the head, which has batch norm whatever the encoder has."""
    encoder = resnet.build_encoder(TINY.model_copy(update={"norm": norm}), size_px=8, seed=0)
    head = heads.projection_head(HeadConfig(output_dim=8), input_dim=encoder.output_shape[-1], seed=1)
    assert GradientCache(encoder, head, chunk_size=2).sweeps == sweeps


def test_pretrain_memory_starts_empty_and_then_changes_the_loss(files, plain):
    remembered = pretrain(files, memory=MemoryConfig(queue_size=32, momentum=0.5))
    losses = [[row["loss"] for row in trained.history.rows] for trained in (remembered, plain)]
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-5)
    assert losses[0][1] > losses[1][1] + 0.1  # sixteen more negatives


@pytest.mark.usefixtures("eager")
def test_pretrain_memory_is_filled_by_the_momentum_encoder_and_not_by_the_trained_one(files):
    config = config_of(memory=MemoryConfig(queue_size=16, momentum=0.999))
    encoder = resnet.build_encoder(config.encoder, size_px=8, seed=0)
    head = heads.projection_head(config.head, input_dim=encoder.output_shape[-1], seed=1)
    memory = Memory(encoder, head, config=config.memory)
    for variable in memory.encoder.trainable_variables:
        variable.assign_add(
            tf.random.stateless_normal(variable.shape, [0, 1])
        )  # another network than the trained one
    variables = encoder.trainable_variables + head.trainable_variables
    optimizer = loop.build_optimizer(config.optimizer, variables, batch_size=8, total_steps=1)
    (batch,) = data.training_batches(files, batch_size=8, epochs=1, seed=0).take(1)
    x = tf.concat(views.pair_maker(config.augment, size_px=8, seed=0)(batch), axis=0)
    expected = tf.math.l2_normalize(memory.project(x), axis=1)
    stages.pretrain_step(config, encoder, head, optimizer, seed=0, memory=memory)(batch)
    # Image by image, first view and second; 0.999 of the momentum network is as it was.
    np.testing.assert_allclose(memory.queue, tf.reshape(tf.stack(tf.split(expected, 2), axis=1), [16, -1]), atol=1e-4)


@pytest.mark.parametrize("norm", ["local_batch", "layer", "group"])
@pytest.mark.usefixtures("eager")
def test_pretrain_every_norm_takes_finite_steps(files, norm):
    trained = pretrain(files, encoder=TINY.model_copy(update={"norm": norm}), epochs=1)
    assert all(np.isfinite(row["loss"]) for row in trained.history.rows)


def test_pretrain_bfloat16_stays_near_float32_and_keeps_its_policy_to_itself(files, plain):
    mixed = pretrain(files, compute=ComputeConfig(precision="mixed_bfloat16"))
    assert mixed.encoder.get_layer("stage0_block0_a_norm").compute_dtype == "bfloat16"
    assert mixed.history.rows[0]["loss"] == pytest.approx(plain.history.rows[0]["loss"], abs=0.1)
    tf_keras.backend.set_floatx("float64")
    try:
        assert resnet.build_encoder(TINY, size_px=8, seed=0).layers[1].compute_dtype == "float64"
    finally:
        tf_keras.backend.set_floatx("float32")
