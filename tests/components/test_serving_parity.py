"""Training and serving see the same tensor for the same bytes, and what is served needs nothing of ours."""

import base64
import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tfx.components.trainer.fn_args_utils import FnArgs

from components.training import classifier, common, pretrain
from trainer import data, export, probes, stages
from trainer.config import (
    AugmentConfig,
    ClassifierConfig,
    CropConfig,
    EncoderConfig,
    HeadConfig,
    OptimizerConfig,
    PretrainConfig,
)

TINY = EncoderConfig(stage_blocks=(1,), width=4)
ADAMW = OptimizerConfig(name="adamw", learning_rate=0.01)
FINETUNE = ClassifierConfig(
    augment=AugmentConfig(crop=CropConfig(size_px=16), jitter_strength=0.0), steps=2, batch_size=20, optimizer=ADAMW
)
SERVE = """
import base64
import numpy as np
import tensorflow as tf

model = tf.saved_model.load(argument["model"])
images = tf.constant([base64.b64decode(image) for image in argument["images"]])
outputs = {
    f"{name}/{key}": value.numpy()
    for name in argument["signatures"]
    for key, value in model.signatures[name](image_bytes=images).items()
}
np.savez(argument["out"], signatures=sorted(model.signatures), **outputs)
loaded = {module.partition(".")[0] for module in sys.modules}
assert not loaded & BLOCKED, loaded & BLOCKED
"""


def fn_args(directory, transformed, custom_config, base_model=None):
    (directory / "run").mkdir()  # as the orchestrator does
    return FnArgs(
        train_files=[transformed.examples],
        eval_files=[transformed.examples],
        transform_graph_path=transformed.graph,
        serving_model_dir=str(directory / "serving"),
        model_run_dir=str(directory / "run"),
        custom_config=custom_config,
        base_model=base_model,
    )


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory, transformed):
    directory = tmp_path_factory.mktemp("pretrained")
    config = PretrainConfig(
        encoder=TINY,
        head=HeadConfig(output_dim=4),
        augment=AugmentConfig(crop=CropConfig(size_px=16), jitter_strength=0.0),
        batch_size=8,
        epochs=1,
        optimizer=ADAMW,
    )
    custom_config = {
        "config": config.model_dump_json(),
        "seed": 0,
        "checkpoint_root": str(directory / "checkpoints"),
        "code_version": "",
    }
    args = fn_args(directory, transformed, custom_config)
    pretrain.run_fn(args)
    return args


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory, transformed, pretrained):
    custom_config = {
        "arm": "finetune",
        "fraction": 0.5,
        "config": FINETUNE.model_dump_json(),
        "encoder": EncoderConfig(width=3).model_dump_json(),  # the base model's own description counts
        "seed": 0,
    }
    directory = tmp_path_factory.mktemp("finetuned")
    args = fn_args(directory, transformed, custom_config, base_model=pretrained.serving_model_dir)
    classifier.run_fn(args)
    return args


def serve(run_bare, directory, model, raw_images, signatures):
    argument = {
        "model": model,
        "images": [base64.b64encode(image.image_bytes).decode() for image in raw_images],
        "signatures": signatures,
        "out": str(directory / "outputs.npz"),
    }
    run_bare(SERVE, argument, cwd=directory)
    return np.load(directory / "outputs.npz", allow_pickle=True)


@pytest.fixture(scope="module")
def served(run_bare, tmp_path_factory, finetuned, raw_images):
    signatures = ["serving_default", "embed", "preprocess"]
    return serve(run_bare, tmp_path_factory.mktemp("bare"), finetuned.serving_model_dir, raw_images, signatures)


@pytest.fixture(scope="module")
def evaluated(transformed, raw_images):
    """Images as the evaluation sees them, in the order of the raw images."""
    files = data.open_examples([transformed.examples])
    (batch,) = data.evaluation_batches(files, size_px=16)
    rows = {key.decode(): index for index, key in enumerate(batch["key"].numpy())}
    return batch["image"].numpy()[[rows[image.key] for image in raw_images]]


def test_served_preprocessing_equals_the_evaluations_tensor_bit_for_bit(served, evaluated):
    assert served["preprocess/image"].dtype == evaluated.dtype == np.float32
    np.testing.assert_array_equal(served["preprocess/image"], evaluated)


def test_served_classifier_takes_bytes_and_gives_probabilities_and_h_without_our_code(served, finetuned, raw_images):
    assert set(served["signatures"]) == {"serving_default", "embed", "preprocess", "transformed_labels"}
    n_classes = len({image.label for image in raw_images})
    probabilities = served["serving_default/probabilities"]
    assert probabilities.shape == (42, n_classes)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert served["embed/embedding"].shape == (42, 4)
    np.testing.assert_array_equal(served["embed/embedding"], served["serving_default/embedding"])
    classes = json.loads(Path(finetuned.serving_model_dir, "assets.extra", "classes.json").read_text())
    labels = [classes[index].encode() for index in probabilities.argmax(axis=1)]
    assert served["serving_default/label"].tolist() == labels


def test_served_model_holds_no_keras_layer_whose_functions_were_traced_for_it(pretrained, finetuned):
    for args in (pretrained, finetuned):
        saved = saved_model_pb2.SavedModel.FromString(Path(args.serving_model_dir, "saved_model.pb").read_bytes())
        nodes = saved.meta_graphs[0].object_graph_def.nodes
        kinds = {node.user_object.identifier for node in nodes if node.HasField("user_object")}
        assert kinds and not {kind for kind in kinds if "keras" in kind}


def test_served_classifier_scores_the_test_images_as_the_training_did(served, finetuned, raw_images):
    predictions = np.load(f"{finetuned.model_run_dir}/predictions.npz")
    rows = {key: index for index, key in enumerate(predictions["key"])}
    expected = predictions["probabilities"][[rows[image.key] for image in raw_images]]
    np.testing.assert_allclose(served["serving_default/probabilities"], expected, atol=1e-5)
    (row,) = json.loads(Path(finetuned.model_run_dir, "rows.json").read_text())
    hits = predictions["probabilities"].argmax(axis=1) == predictions["label_index"]
    assert row["top1"] == pytest.approx(hits.mean())
    assert (row["arm"], row["n_labels"], row["n_test"], row["settings"]["batch_size"]) == ("finetune", 42, 42, 20)


def test_served_classifier_comes_with_its_weights_by_which_it_teaches(finetuned, evaluated, served):
    teacher, encoder, classes = export.load_classifier(finetuned.serving_model_dir)
    assert encoder == TINY
    assert list(classes) == json.loads(Path(finetuned.serving_model_dir, "assets.extra", "classes.json").read_text())
    logits, h = teacher(evaluated, training=False)
    np.testing.assert_allclose(tf.nn.softmax(logits), served["serving_default/probabilities"], atol=1e-5)
    np.testing.assert_allclose(h, served["embed/embedding"], atol=1e-5)


def test_classifier_on_a_layer_of_the_projection_head_comes_with_that_layer(transformed, pretrained, tmp_path):
    custom_config = {
        "arm": "finetune",
        "fraction": 0.5,
        "config": FINETUNE.model_copy(update={"head_layer": 1}).model_dump_json(),
        "encoder": TINY.model_dump_json(),
        "seed": 0,
    }
    args = fn_args(tmp_path, transformed, custom_config, base_model=pretrained.serving_model_dir)
    classifier.run_fn(args)
    teacher, _, _ = export.load_classifier(args.serving_model_dir)
    scored = probes.classify(teacher, data.open_examples([transformed.examples]))
    expected = np.load(f"{args.model_run_dir}/predictions.npz")
    np.testing.assert_array_equal(scored.key, expected["key"])
    np.testing.assert_allclose(scored.probabilities, expected["probabilities"], atol=1e-6)


def test_served_encoder_embeds_as_the_loaded_weights_do(run_bare, tmp_path, pretrained, raw_images, evaluated):
    served = serve(run_bare, tmp_path, pretrained.serving_model_dir, raw_images, ["serving_default", "embed"])
    encoder, config = export.load_encoder(pretrained.serving_model_dir)
    assert config == TINY
    expected = encoder(evaluated, training=False)
    np.testing.assert_allclose(served["embed/embedding"], expected, atol=1e-5)
    np.testing.assert_array_equal(served["embed/embedding"], served["serving_default/embedding"])


def test_encoder_of_another_size_than_the_labelled_images_is_refused(finetuned, transformed, pretrained, tmp_path):
    config = FINETUNE.model_copy(update={"augment": AugmentConfig()}).model_dump_json()
    custom_config = finetuned.custom_config | {"config": config}
    args = fn_args(tmp_path, transformed, custom_config, base_model=pretrained.serving_model_dir)
    with pytest.raises(ValueError, match=r"pretrained for images of 16 px, the labelled ones are of 32 px and"):
        classifier.run_fn(args)


def test_network_takes_the_size_to_which_the_graph_brings_images_unless_one_is_configured(pretrained):
    assert common.network_size_px(pretrained, AugmentConfig()) == 32
    assert common.network_size_px(pretrained, AugmentConfig(crop=CropConfig(size_px=16))) == 16


class StartedError(Exception):
    pass


def test_pretraining_for_another_size_is_another_training(pretrained, monkeypatch):
    started = {}

    def start(config, *_, checkpoint_dir, **__):
        started[config.augment.crop.size_px] = checkpoint_dir
        raise StartedError

    monkeypatch.setattr(stages, "pretrain", start)
    for size_px in (24, 32):
        monkeypatch.setattr(common, "network_size_px", lambda *_, size_px=size_px: size_px)
        with pytest.raises(StartedError):
            pretrain.run_fn(pretrained)
    assert started.keys() == {24, 32} and started[24] != started[32]


def test_pretraining_on_the_same_examples_in_other_files_goes_on_from_its_finished_checkpoint(
    pretrained, transformed, tmp_path, monkeypatch
):
    """As in a later run of the pipeline, which ingests anew."""
    records = list(tf.data.TFRecordDataset(tf.io.gfile.glob(transformed.examples), "GZIP").as_numpy_iterator())
    with tf.io.TFRecordWriter(str(tmp_path / "again.gz"), "GZIP") as writer:
        for record in reversed(records):
            writer.write(record)
    again = fn_args(tmp_path, transformed, pretrained.custom_config)
    again.train_files = [str(tmp_path / "again.gz")]
    steps = []
    monkeypatch.setattr(stages.loop, "_row", lambda *row: steps.append(row))
    pretrain.run_fn(again)
    assert steps == []
    ours, theirs = (export.load_encoder(run.serving_model_dir)[0].get_weights() for run in (again, pretrained))
    for value, expected in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_pretraining_leaves_its_curve_and_two_views_of_the_same_images(pretrained):
    with open(f"{pretrained.model_run_dir}/history.csv") as file:
        history = list(csv.DictReader(file))
    assert [row["step"] for row in history] == ["1", "2", "3", "4", "5"]
    assert history[0].keys() >= {"epoch", "loss", "learning_rate", "contrastive_accuracy", "images_per_s"}
    with open(f"{pretrained.model_run_dir}/diagnostics.csv") as file:
        (look,) = csv.DictReader(file)
    assert look["step"] == "5" and float(look["effective_rank"]) >= 1 and look.keys() >= {"gradient_norm"}
    views = np.load(f"{pretrained.model_run_dir}/views.npz")
    assert views["original"].shape == (8, 64, 64, 3)
    assert views["view_a"].shape == views["view_b"].shape == (8, 16, 16, 3)
    assert (np.abs(views["view_a"].astype(int) - views["view_b"]).max(axis=(1, 2, 3)) > 0).all()


def test_pretraining_leaves_the_statistics_of_the_channels_for_the_report(pretrained):
    channels = json.loads(Path(pretrained.model_run_dir, "channels.json").read_text())
    assert channels.keys() == {"channel_mean", "channel_std"}
    assert all(len(values) == 3 and all(0 < value < 1 for value in values) for values in channels.values())


def test_pretraining_repeated_goes_on_from_its_finished_checkpoint(pretrained, transformed, tmp_path, monkeypatch):
    again = fn_args(tmp_path, transformed, pretrained.custom_config)
    steps = []
    monkeypatch.setattr(stages.loop, "_row", lambda *args: steps.append(args))
    pretrain.run_fn(again)
    assert steps == []
    ours, theirs = (export.load_encoder(args.serving_model_dir)[0].get_weights() for args in (again, pretrained))
    for value, expected in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(value, expected)
