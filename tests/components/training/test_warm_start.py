"""Where a pretraining starts, each reason for it, and the run_fn that starts there and says so."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tfx.components.trainer.fn_args_utils import FnArgs

from components.push.versions import VersionedDirectory
from components.training import common, pretrain, warm_start
from components.training.settings import WarmStartConfig
from components.training.warm_start import choose, kept_with_a_version, scheduled, warm_runs
from trainer import export, heads, resnet
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
WARM = WarmStartConfig(enabled=True, epochs=1, learning_rate=0.5, scratch_every=3)
CONFIG = PretrainConfig(
    encoder=TINY,
    head=HeadConfig(output_dim=4),
    augment=AugmentConfig(crop=CropConfig(size_px=16), jitter_strength=0.0, grayscale_probability=0.0),
    batch_size=8,
    epochs=2,
    optimizer=OptimizerConfig(name="adamw", learning_rate=0.01),
    diagnostics=DiagnosticsConfig(every_steps=0),
)


def changed(**settings):
    return CONFIG.model_copy(update=settings)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """The model of an earlier pretraining, from scratch."""
    folder = str(tmp_path_factory.mktemp("pretrained"))
    encoder = resnet.build_encoder(TINY, size_px=16, seed=5)
    head = heads.projection_head(CONFIG.head, input_dim=encoder.output_shape[-1], seed=6)
    export.save_encoder(encoder, TINY, folder)
    export.save_head(head, CONFIG.head, folder)
    told = {"start": "scratch", "words": "", "from_version": None, "weights": None, "digest": None, "encoder": "a"}
    Path(folder, "assets.extra", "start.json").write_text(json.dumps(told))
    return folder


@pytest.fixture
def pushed(pretrained, tmp_path):
    """A folder whose champion came of it."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "saved_model.pb").write_text("a model")
    record, copies = kept_with_a_version(pretrained)
    directory = VersionedDirectory(str(tmp_path / "pushed"))
    with directory.exclusive():
        version = directory.add(str(model), model_fingerprint="f", record=record, copies=copies)
        directory.crown(version)
        directory.history().append("promoted", champion=version, former=None, reason="", **record)
    return tmp_path / "pushed"


def decide(pushed, *encoders, start="warm"):
    """Adds a decision on each of some pretrainings."""
    directory = VersionedDirectory(str(pushed))
    for number, encoder in enumerate(encoders):
        told = {"pretraining": {"start": start, "from_version": 1, "encoder": encoder}}
        directory.history().append("kept back", champion=1, former=1, reason=str(number), **told)


def test_champion_of_the_same_network_is_where_it_starts(pushed, pretrained):
    start = choose(WARM, CONFIG, pushed=str(pushed))
    assert (start.start, start.from_version) == ("warm", 1)
    assert start.words == "Pretraining started from the encoder and head of the champion, version 1."
    ours, theirs = export.load_encoder(start.weights)[0], export.load_encoder(pretrained)[0]
    for value, expected in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (changed(encoder=EncoderConfig(stage_blocks=(1,), width=8)), r"encoder\.width 4 → 8"),
        (changed(head=HeadConfig(output_dim=8)), r"head\.output_dim 4 → 8"),
        (changed(augment=AugmentConfig(crop=CropConfig(size_px=24))), r"size_px 16 → 24"),
    ],
)
def test_another_architecture_starts_from_scratch_and_names_what_changed(pushed, config, words):
    start = choose(WARM, config, pushed=str(pushed))
    assert (start.start, start.weights) == ("scratch", None)
    assert start.words.startswith(
        "Pretraining started from scratch: the network is another than that of the champion"
    )
    assert words.replace("\\", "") in start.words


@pytest.mark.parametrize("config", [changed(temperature=0.9), changed(epochs=7), changed(batch_size=4)])
def test_other_settings_of_the_method_do_not_keep_it_from_starting_warm(pushed, config):
    assert choose(WARM, config, pushed=str(pushed)).start == "warm"


def test_not_enabled_starts_from_scratch_and_looks_at_no_folder():
    assert choose(WarmStartConfig(), CONFIG, pushed="\0").words == "Pretraining started from scratch: as configured."


def test_no_champion_or_one_without_these_weights_starts_from_scratch(pushed, tmp_path):
    assert "there is no champion yet" in choose(WARM, CONFIG, pushed=str(tmp_path / "nothing")).words
    (pushed / "1" / warm_start.PRETRAINED_FOLDER / "assets.extra" / "head.safetensors").unlink()
    assert "came without the weights" in choose(WARM, CONFIG, pushed=str(pushed)).words


def test_every_third_run_starts_from_scratch_whether_the_others_were_promoted_or_not(pushed):
    assert choose(WARM, CONFIG, pushed=str(pushed)).start == "warm"
    decide(pushed, "b")
    assert choose(WARM, CONFIG, pushed=str(pushed)).start == "warm"
    decide(pushed, "c")
    start = choose(WARM, CONFIG, pushed=str(pushed))
    assert start.start == "scratch"
    assert "2 runs have started warm since the last from scratch, and one of 3 is due" in start.words
    assert choose(WARM.model_copy(update={"scratch_every": 0}), CONFIG, pushed=str(pushed)).start == "warm"
    decide(pushed, "d", start="scratch")
    assert choose(WARM, CONFIG, pushed=str(pushed)).start == "warm"


def test_pretraining_with_several_decisions_counts_once():
    def entry(start, encoder):
        return {"pretraining": {"start": start, "encoder": encoder}}

    assert warm_runs([entry("warm", "a"), entry("warm", "a"), {}, entry("warm", "b")]) == 2
    assert warm_runs([entry("warm", "a"), entry("scratch", "b"), entry("warm", "c")]) == 1


def test_warm_start_has_its_own_schedule_and_scratch_the_usual_one(pushed):
    warm = scheduled(CONFIG, WARM, choose(WARM, CONFIG, pushed=str(pushed)))
    assert (warm.epochs, warm.optimizer.learning_rate, warm.optimizer.name) == (1, 0.5, "adamw")
    assert scheduled(CONFIG, WARM, choose(WARM, CONFIG, pushed="nowhere")) == CONFIG
    plain = WarmStartConfig(enabled=True)
    assert scheduled(CONFIG, plain, choose(plain, CONFIG, pushed=str(pushed))) == CONFIG


@pytest.fixture
def run(pushed, tmp_path, monkeypatch):
    """Runs the run_fn, but for what it does without regard to where it starts: size, pictures, the served model."""
    monkeypatch.setattr(common, "network_size_px", lambda *_: 16)
    monkeypatch.setattr(common, "Preprocessing", lambda _: None)
    monkeypatch.setattr(export, "ServedEncoder", lambda *_: None)
    monkeypatch.setattr(export, "save_served", lambda *_: None)
    monkeypatch.setattr(pretrain, "_write_views", lambda *_: None)
    tf.config.run_functions_eagerly(True)
    with tf.io.TFRecordWriter(str(tmp_path / "examples.gz"), "GZIP") as writer:
        for number, image in enumerate(np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), np.uint8)):
            example = tf.train.Example()
            for name, value in {"image": tf.io.encode_png(image).numpy(), "key": b"%d" % number}.items():
                example.features.feature[name].bytes_list.value.append(value)
            for name in ("channel_mean", "channel_std"):
                example.features.feature[name].float_list.value.extend([0.5] * 3)
            writer.write(example.SerializeToString())

    def run(**warm):
        (tmp_path / "run").mkdir()
        settings = {
            "config": CONFIG.model_dump_json(),
            "seed": 0,
            "checkpoint_root": str(tmp_path / "checkpoints"),
            "code_version": "",
            "warm_start": WARM.model_copy(update=warm).model_dump_json(),
            "pushed": str(pushed),
        }
        pretrain.run_fn(
            FnArgs(
                train_files=[str(tmp_path / "examples.gz")],
                serving_model_dir=str(tmp_path / "serving"),
                model_run_dir=str(tmp_path / "run"),
                custom_config=settings,
            )
        )
        return export.load_encoder(str(tmp_path / "serving"))[0]

    yield run
    tf.config.run_functions_eagerly(False)


def test_run_fn_starts_there_by_its_schedule_and_its_model_can_be_kept_as_the_next_start(run, pretrained, tmp_path):
    encoder = run(learning_rate=1e-12)
    told = [
        json.loads(path.read_text()) for path in sorted(tmp_path.glob("**/start.json")) if "pushed" not in str(path)
    ]
    assert len(told) == 2 and told[0] == told[1]
    assert (told[0]["start"], told[0]["from_version"]) == ("warm", 1)
    origin = export.load_encoder(pretrained)[0]
    for value, expected in zip(encoder.trainable_variables, origin.trainable_variables, strict=True):
        np.testing.assert_allclose(value, expected, atol=1e-8)
    rows = list(csv.DictReader((tmp_path / "run" / "history.csv").open()))
    assert float(rows[-1]["epoch"]) == 1.0
    record, copies = kept_with_a_version(str(tmp_path / "serving"))
    assert record["pretraining"]["start"] == "warm" and record["pretraining"]["encoder"] != "a"
    assert all(Path(source).exists() for source in copies.values()) and len(copies) == 4
