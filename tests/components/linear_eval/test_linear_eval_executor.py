"""LinearEval's executor on tiny artifacts: a row for each arm and fraction, and an encoder that must not move."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import path_utils

from components.artifacts import ProbeResults
from components.linear_eval import executor
from trainer import export, resnet
from trainer.config import EncoderConfig, ProbeConfig

TINY = EncoderConfig(stage_blocks=(1,), width=4)
SIZE_PX = 16
SEED = 3
FRACTIONS = {0.5: "fraction-50pct", 1.0: "fraction-100pct"}
SETTINGS = {"linear": {"C", "folds"}, "random": {"C", "folds"}, "knn": {"k", "temperature"}}


@dataclass(frozen=True)
class Inputs:
    """Artifacts of a run, and how many examples are in each split."""

    artifacts: dict
    counts: dict[str, int]
    classes: list[str]


@pytest.fixture(scope="module")
def inputs(transformed, tmp_path_factory):
    root = tmp_path_factory.mktemp("linear_eval")
    records = list(tf.data.TFRecordDataset(tf.io.gfile.glob(transformed.examples), "GZIP").as_numpy_iterator())
    splits = {"fraction-50pct": records[:20], "fraction-100pct": records[:28], "test": records[28:]}
    examples = standard_artifacts.Examples()
    examples.uri = str(root / "examples")
    examples.split_names = artifact_utils.encode_split_names(list(splits))
    for split, chosen in splits.items():
        folder = root / "examples" / f"Split-{split}"
        folder.mkdir(parents=True)
        with tf.io.TFRecordWriter(str(folder / "data_tfrecord-00000-of-00001.gz"), "GZIP") as writer:
            for record in chosen:
                writer.write(record)
    model, graph = standard_artifacts.Model(), standard_artifacts.TransformGraph()
    model.uri, graph.uri = str(root / "model"), transformed.graph
    encoder = resnet.build_encoder(TINY, size_px=SIZE_PX, seed=SEED)
    export.save_encoder(encoder, TINY, path_utils.serving_model_path(model.uri))
    return Inputs(
        {"model": [model], "examples": [examples], "transform_graph": [graph]},
        {split: len(chosen) for split, chosen in splits.items()},
        sorted({image.label for image in transformed.raw}),
    )


def run(inputs: Inputs, directory: Path) -> Path:
    results = ProbeResults()
    results.uri = str(directory / "results")
    properties = {
        "config": ProbeConfig(inverse_regularization=(0.1, 1.0), knn_k=5).model_dump_json(),
        "fractions": json.dumps(list(FRACTIONS)),
        "seed": SEED,
        "code_version": "",
    }
    executor.Executor().Do(inputs.artifacts, {"probe_results": [results]}, properties)
    return Path(results.uri)


@pytest.fixture(scope="module")
def results(inputs, tmp_path_factory):
    return run(inputs, tmp_path_factory.mktemp("results"))


def rows_of(results):
    return {(row["arm"], row["label_fraction"]): row for row in json.loads((results / "rows.json").read_text())}


def test_every_arm_has_a_row_for_every_fraction_with_its_settings(results, inputs):
    rows = rows_of(results)
    assert set(rows) == {(arm, fraction) for arm in SETTINGS for fraction in FRACTIONS}
    for (arm, fraction), row in rows.items():
        assert row["n_labels"] == inputs.counts[FRACTIONS[fraction]]
        assert row["n_test"] == inputs.counts["test"]
        assert row["seed"] == SEED
        assert set(row["settings"]) == SETTINGS[arm]
        assert 0 <= row["top1"] <= row["top5"] <= 1


def test_embeddings_are_the_frozen_encoders_h_of_each_test_image(results, inputs):
    shown = np.load(results / "embeddings.npz")
    count = inputs.counts["test"]
    assert shown["h"].shape == (count, 4) and shown["image"].shape == (count, SIZE_PX, SIZE_PX, 3)
    assert len(set(shown["key"])) == len(shown["label_index"]) == count
    encoder = resnet.build_encoder(TINY, size_px=SIZE_PX, seed=SEED)
    np.testing.assert_allclose(shown["h"], encoder(shown["image"] / np.float32(255), training=False), atol=0.02)


def test_classes_are_named_in_the_order_of_their_indices(results, inputs):
    classes = json.loads((results / "classes.json").read_text())
    assert sorted(classes) == inputs.classes
    assert np.load(results / "embeddings.npz")["label_index"].max() < len(classes)


def test_control_is_another_network_than_the_pretrained_one(inputs, tmp_path, monkeypatch):
    embedded = []
    embed = executor.probes.embed
    monkeypatch.setattr(
        executor.probes, "embed", lambda encoder, *a, **k: embedded.append(encoder) or embed(encoder, *a, **k)
    )
    run(inputs, tmp_path)
    one, *others = {id(encoder): encoder.get_weights()[0] for encoder in embedded}.values()
    assert len(others) == 1 and others[0].shape == one.shape
    assert not np.array_equal(one, others[0])


@tf_keras.utils.register_keras_serializable("tests")
class AlwaysTraining(tf_keras.layers.BatchNormalization):
    """Takes the statistics of each batch into its own, as a batch norm left in training mode does."""

    def call(self, inputs, training=None):
        return super().call(inputs, training=True)


def test_encoder_that_moves_while_it_is_evaluated_is_refused(inputs, tmp_path, monkeypatch):
    images = tf_keras.Input([SIZE_PX, SIZE_PX, 3])
    moving = tf_keras.Model(images, tf_keras.layers.GlobalAveragePooling2D()(AlwaysTraining()(images)))
    monkeypatch.setattr(executor.export, "load_encoder", lambda path: (moving, TINY))
    with pytest.raises(RuntimeError, match="frozen to the bit"):
        run(inputs, tmp_path)
    assert not (tmp_path / "results" / "rows.json").exists()
