import numpy as np
import pytest
import tensorflow as tf
from example_files import class_images, random_images, write_examples
from PIL import Image

from trainer import data, diagnostics, export, heads, losses, resnet, stages, views
from trainer.config import (
    AugmentConfig,
    CropConfig,
    DiagnosticsConfig,
    EncoderConfig,
    HeadConfig,
    OptimizerConfig,
    PretrainConfig,
)

TINY = EncoderConfig(stage_blocks=(1,), width=4)
MILD = AugmentConfig(crop=CropConfig(min_area=0.5), jitter_strength=0.3, grayscale_probability=0.0)
UNWATCHED = DiagnosticsConfig(every_steps=0)
TIMES = {"images_per_s", "input_wait_share"}
LABELS = [index % 4 for index in range(20)]

pytestmark = [
    pytest.mark.usefixtures("compile_views_once"),
    pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`:UserWarning"),
]


def pretrain_config(**settings):
    defaults = {
        "encoder": TINY,
        "head": HeadConfig(output_dim=8),
        "augment": MILD,
        "batch_size": 10,
        "epochs": 15,
        "optimizer": OptimizerConfig(name="adamw", learning_rate=0.02, warmup_share=0.1),
        "checkpoint_every_steps": 7,
        "diagnostics": DiagnosticsConfig(every_steps=5),
    }
    return PretrainConfig(**defaults | settings)


def saved(pretrained, config, path):
    export.save_encoder(pretrained.encoder, config.encoder, str(path))
    export.save_head(pretrained.head, config.head, str(path))
    return str(path)


def trainable_of(pretrained):
    return [
        variable.numpy() for model in (pretrained.encoder, pretrained.head) for variable in model.trainable_weights
    ]


def weights_of(pretrained):
    return pretrained.encoder.get_weights() + pretrained.head.get_weights()


def assert_equal_weights(ours, expected):
    for value, other in zip(ours, expected, strict=True):
        np.testing.assert_array_equal(value, other)


@pytest.fixture(scope="module")
def unlike(tmp_path_factory):
    """Images that two crops of one are easily told from two of another."""
    images = class_images(list(range(20)))
    return write_examples(tmp_path_factory.mktemp("unlike") / "examples.gz", images)


@pytest.fixture(scope="module")
def pretrained(unlike):
    return stages.pretrain(pretrain_config(), unlike, seed=1)


def loss_on_new_views(encoder, head, files):
    """NT-Xent on views of epochs that no training reached: the same for every network."""
    make_views, batch_losses = views.pair_maker(MILD, size_px=8, seed=1), []
    for batch in data.training_batches(files, batch_size=10, epochs=5, seed=50):
        view_a, view_b = make_views(batch | {"epoch": batch["epoch"] + 1000})
        z = head(encoder(tf.concat([view_a, view_b], axis=0), training=True), training=True)
        batch_losses.append(losses.nt_xent(*tf.split(z, 2), temperature=0.2))
    return np.mean(batch_losses)


def initial_networks():
    encoder = resnet.build_encoder(TINY, size_px=8, seed=1)
    seed = 1 + stages._MODEL_SEED_STRIDE
    return encoder, heads.projection_head(HeadConfig(output_dim=8), input_dim=4, seed=seed)


def test_pretrain_lowers_the_loss_on_views_it_never_saw(pretrained, unlike):
    trained, untrained = (
        copy_of(*networks) for networks in ((pretrained.encoder, pretrained.head), initial_networks())
    )
    assert loss_on_new_views(*trained, unlike) < 0.75 * loss_on_new_views(*untrained, unlike)


def copy_of(encoder, head):
    """The networks again: a forward pass in training mode moves the statistics of the batch norms."""
    copies = initial_networks()
    for copy, model in zip(copies, (encoder, head), strict=True):
        copy.set_weights(model.get_weights())
    return copies


def test_pretrain_history_has_every_step_and_its_metrics(pretrained):
    rows = pretrained.history.rows
    assert [row["step"] for row in rows] == list(range(1, 31)) and pretrained.batch_size == 10
    assert rows[-1].keys() == {
        "step",
        "epoch",
        "loss",
        "learning_rate",
        "contrastive_accuracy",
        "gradient_norm",
        *TIMES,
    }


class KilledError(Exception):
    pass


def test_pretrain_killed_and_resumed_equals_one_training_bit_for_bit(unlike, pretrained, tmp_path):
    def kill(progress):
        if progress.step == 11:
            raise KilledError

    with pytest.raises(KilledError):
        stages.pretrain(pretrain_config(), unlike, seed=1, checkpoint_dir=str(tmp_path), report=kill)
    seen = []
    resumed = stages.pretrain(pretrain_config(), unlike, seed=1, checkpoint_dir=str(tmp_path), report=seen.append)
    assert seen[0].step == 8, "it went on from the checkpoint of step 7"
    # The fixture's weights come from a training of its own: this shows that a repeat is exact as well.
    assert_equal_weights(weights_of(resumed), weights_of(pretrained))
    for row, expected in zip(resumed.history.rows, pretrained.history.rows, strict=True):
        assert row | dict.fromkeys(TIMES) == expected | dict.fromkeys(TIMES)
    assert resumed.diagnostics.rows == pretrained.diagnostics.rows
    again = stages.pretrain(
        pretrain_config(), unlike, seed=1, checkpoint_dir=str(tmp_path)
    )  # finished: no more steps
    assert again.diagnostics.rows == pretrained.diagnostics.rows


@pytest.mark.usefixtures("eager")
def test_pretrain_on_other_images_does_not_go_on_and_says_what_differs(tmp_path):
    def folder(name, *, seed, **size):
        for index, image in enumerate(random_images(4, seed=seed)):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(image).save(tmp_path / name / f"{index}.png")
        return data.open_folder(str(tmp_path / name), **size)

    def pretrain(files):
        config = pretrain_config(batch_size=4, epochs=1, diagnostics=UNWATCHED)
        return stages.pretrain(config, files, seed=1, checkpoint_dir=str(tmp_path / "checkpoints"))

    pretrain(folder("images", seed=1))
    with pytest.raises(ValueError, match=r"are of another training:\n  images\.examples: .* there, .* here\ngive"):
        pretrain(folder("others", seed=2))
    with pytest.raises(ValueError, match=r"training:\n  images\.short_side_px: 8 there, 12 here\ngive"):
        pretrain(folder("images", seed=1, short_side_px=12))
    pretrain(folder("moved", seed=1))  # finished


def test_pretrain_diagnostics_are_those_of_the_steps_and_of_the_trained_network(pretrained, unlike):
    rows = pretrained.diagnostics.rows
    assert [row["step"] for row in rows] == [5, 10, 15, 20, 25, 30]
    for row, step in zip(rows, (pretrained.history.rows[row["step"] - 1] for row in rows), strict=True):
        assert (row["loss"], row["gradient_norm"]) == (step["loss"], step["gradient_norm"])
    batch = next(iter(data.training_batches(unlike, batch_size=20, epochs=1, seed=1)))
    encoder, head = copy_of(pretrained.encoder, pretrained.head)
    h = encoder(tf.concat(views.pair_maker(MILD, size_px=8, seed=1, compiled=False)(batch), axis=0), training=False)
    look = diagnostics.Look(h=h.numpy(), z=head(h, training=False).numpy(), label=np.full([20], -1))
    assert rows[-1] == pytest.approx(rows[-1] | diagnostics.measure(look), rel=1e-4)


@pytest.mark.usefixtures("eager")
def test_pretrain_on_images_that_are_all_alike_warns_of_collapse_and_of_guessing(tmp_path, caplog):
    files = write_examples(tmp_path / "gray", np.full([20, 8, 8, 3], 128, np.uint8))
    still = AugmentConfig(jitter_strength=0.0, grayscale_probability=0.0)
    stages.pretrain(pretrain_config(augment=still), files, seed=1)
    words = "\n".join(record.getMessage() for record in caplog.records if record.name == "trainer.watching")
    assert "step 30: the representation has collapsed: h has an effective rank of 1.00" in words
    assert words.count("log(19) = 2.944 is that of guessing") == 1


def test_pretrain_first_step_is_the_loss_of_one_forward_pass_over_both_views(unlike, pretrained):
    config = pretrain_config()
    batch = next(iter(data.training_batches(unlike, batch_size=10, epochs=1, seed=1)))
    view_a, view_b = views.pair_maker(MILD, size_px=8, seed=1)(batch)
    encoder, head = initial_networks()
    z_a, z_b = tf.split(head(encoder(tf.concat([view_a, view_b], axis=0), training=True), training=True), 2)
    expected = losses.nt_xent(z_a, z_b, temperature=config.temperature)
    assert pretrained.history.rows[0]["loss"] == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": OptimizerConfig(name="lars", learning_rate=10.0, weight_decay=1e-4)},
        {"optimizer": OptimizerConfig(name="sgd", learning_rate=0.1, weight_decay=1e-4)},
        {"head": HeadConfig(kind="none")},
        {"head": HeadConfig(kind="linear", output_dim=4)},
        {"head": HeadConfig(kind="nonlinear", layers=3, output_dim=4)},
        {"encoder": EncoderConfig(stage_blocks=(1,), width=2, block="bottleneck", stem="imagenet")},
    ],
)
@pytest.mark.usefixtures("eager")
def test_pretrain_every_literal_takes_steps_that_move_every_variable(unlike, settings):
    config = pretrain_config(epochs=1, diagnostics=UNWATCHED, **settings)
    trained = stages.pretrain(config, unlike, seed=1)
    assert all(np.isfinite(row["loss"]) for row in trained.history.rows)
    start = resnet.build_encoder(config.encoder, size_px=8, seed=1)
    for variable, initial in zip(trained.encoder.weights, start.weights, strict=True):
        assert not np.array_equal(variable, initial), variable.name


@pytest.mark.usefixtures("eager")
def test_pretrain_ragged_images_are_cropped_to_the_asked_size_and_blurred(tmp_path):
    images = [random_images(1, height=h, width=w)[0] for h, w in [(8, 8), (8, 16), (13, 8), (8, 9)]]
    config = pretrain_config(
        batch_size=2,
        epochs=1,
        augment=AugmentConfig(crop=CropConfig(size_px=6), blur_probability=0.5),
        diagnostics=UNWATCHED,
    )
    trained = stages.pretrain(config, write_examples(tmp_path / "ragged", images), seed=1)
    assert trained.encoder.input_shape == (None, 6, 6, 3) and len(trained.history.rows) == 2


@pytest.mark.usefixtures("eager")
def test_pretrain_default_batch_is_the_whole_small_set(tmp_path):
    files = write_examples(tmp_path / "ten", random_images(10))
    trained = stages.pretrain(pretrain_config(batch_size=None, epochs=1, diagnostics=UNWATCHED), files, seed=1)
    assert trained.batch_size == 10 and len(trained.history.rows) == 1


def test_pretrain_batch_larger_than_the_set_is_refused(unlike):
    with pytest.raises(ValueError, match=r"batch of 21 .* 20 images"):
        stages.pretrain(pretrain_config(batch_size=21), unlike, seed=1)


def test_view_maker_gives_the_same_views_of_the_asked_size(unlike):
    batch = next(iter(data.training_batches(unlike, batch_size=10, epochs=1, seed=1)))
    make_views = views.pair_maker(MILD, size_px=8, seed=1)
    one, two = (make_views(batch) for _ in range(2))
    assert one[0].shape == one[1].shape == (10, 8, 8, 3)
    np.testing.assert_array_equal(one, two)


@pytest.fixture(scope="module")
def origin(pretrained, tmp_path_factory):
    return saved(pretrained, pretrain_config(), tmp_path_factory.mktemp("origin"))


@pytest.mark.usefixtures("eager")
def test_pretrain_starts_from_the_weights_it_is_given_and_does_not_go_on_from_another_start(
    unlike, pretrained, origin, tmp_path
):
    still = OptimizerConfig(name="adamw", learning_rate=1e-12)
    config = pretrain_config(epochs=1, batch_size=20, optimizer=still, diagnostics=UNWATCHED)
    started = stages.pretrain(config, unlike, seed=4, checkpoint_dir=str(tmp_path / "warm"), initial_weights=origin)
    for value, expected in zip(trainable_of(started), trainable_of(pretrained), strict=True):
        np.testing.assert_allclose(value, expected, atol=1e-8)
    with pytest.raises(ValueError, match="initial_weights"):
        stages.pretrain(config, unlike, seed=4, checkpoint_dir=str(tmp_path / "warm"))


@pytest.mark.parametrize(
    "other", [{"encoder": EncoderConfig(stage_blocks=(1,), width=8)}, {"head": HeadConfig(output_dim=4)}]
)
def test_pretrain_from_weights_of_another_network_is_refused_by_its_layers(unlike, origin, other):
    with pytest.raises(ValueError, match="the weights do not fit the network"):
        stages.pretrain(pretrain_config(epochs=1, **other), unlike, seed=4, initial_weights=origin)
