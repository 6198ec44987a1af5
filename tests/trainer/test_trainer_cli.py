"""The trainer as a user starts it: each command reads what the one before wrote."""

import csv
import json
import os
import shutil
from contextlib import contextmanager

import click.testing
import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors
import tensorflow as tf
from example_files import class_images
from PIL import Image

from trainer import cli, console, export, probes, stages, weights
from trainer.config import MethodConfig, load
from trainer.folders import open_folder

SMALL = [
    "pretrain.encoder.stage_blocks=[1]",
    "pretrain.encoder.width=4",
    "pretrain.augment.jitter_strength=0",  # crops are made and compiled faster than colours
    "pretrain.augment.grayscale_probability=0",
    "pretrain.batch_size=8",
    "pretrain.epochs=2",
    "pretrain.optimizer={learning_rate: 3, warmup_share: 0, warmup_epochs: 1}",
    "finetune.optimizer.warmup_epochs=1",
    "distill.optimizer={warmup_share: 0, warmup_epochs: 1}",
    "finetune.steps=30",
    "finetune.head_layer=1",
    "supervised.steps=2",
    "distill.student.stage_blocks=[1]",
    "distill.student.width=4",
    "distill.epochs=2",
]


def run(*arguments, settings=SMALL, code=0):
    options = [option for setting in settings for option in ("--set", setting)]
    # What the command sets for TensorFlow would reach other tests' processes, whose arithmetic it changes.
    own = dict.fromkeys(["TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS"])
    result = click.testing.CliRunner(env=own).invoke(cli.main, [*arguments, *options])
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    for split in ("train", "test"):
        for index, image in enumerate(class_images([0, 1] * 8, seed=len(split))):
            path = root / split / ("cat", "dog")[index % 2] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return root


@pytest.fixture(scope="module")
def pretrained(folders, tmp_path_factory):
    output = tmp_path_factory.mktemp("run")
    where = ("--images", f"{folders}/train", "--labeled", f"{folders}/test", "--output", str(output))
    assert "encoder:" in run("pretrain", *where)
    assert (output / "history.csv").exists() and "knn_accuracy" in (output / "diagnostics.csv").read_text()
    return str(output)


@pytest.fixture(scope="module")
def finetuned(folders, pretrained, tmp_path_factory):
    output = str(tmp_path_factory.mktemp("finetuned"))
    labeled = ("--labeled", f"{folders}/train", "--test", f"{folders}/test")
    assert "classifier:" in run("finetune", "--model", pretrained, *labeled, "--output", output)
    return output


def test_pretraining_warms_up_for_the_configured_epochs(pretrained):
    with open(f"{pretrained}/history.csv") as file:
        rates = [float(row["learning_rate"]) for row in csv.DictReader(file)]
    np.testing.assert_allclose(rates, [1.5, 3, 3, 1.5], rtol=1e-6)  # two epochs of two steps


@pytest.mark.parametrize("method", ["logistic", "ridge", "gradient"])
def test_probe_takes_every_method(folders, pretrained, method):
    settings = [f"probe.method={method}", "probe.gradient.epochs=2"]
    run(
        "probe",
        "--model",
        pretrained,
        "--labeled",
        f"{folders}/train",
        "--test",
        f"{folders}/test",
        settings=settings,
    )


def test_finetune_without_a_model_trains_from_scratch(folders, tmp_path):
    output = run("finetune", "--labeled", f"{folders}/train", "--output", str(tmp_path))
    assert "classifier:" in output


def test_distill_learns_from_a_finetuned_classifier(folders, finetuned, tmp_path):
    images = ("--images", f"{folders}/train", "--test", f"{folders}/test")
    assert "classifier:" in run("distill", "--teacher", finetuned, *images, "--output", str(tmp_path))


def test_distill_counts_the_labels_of_labeled_and_of_nothing_else(folders, finetuned, tmp_path, monkeypatch):
    seen = []

    def distill(config, files, **arguments):
        seen.append(files)
        raise ValueError("seen")

    def run_distill(*more, weight=0.5, code=3):
        where = ("--teacher", finetuned, "--images", f"{folders}/train", "--output", str(tmp_path / "student"))
        return run("distill", *where, *more, settings=[*SMALL, f"distill.label_weight={weight}"], code=code)

    monkeypatch.setattr(stages, "distill", distill)
    labels = tmp_path / "labels"
    for name in ("cat/0.png", "dog/1.png"):
        (labels / name).parent.mkdir(parents=True, exist_ok=True)
        (labels / name).write_bytes((folders / "test" / name).read_bytes())
    assert "labels count only with --labeled" in run_distill(code=2)
    assert "no class folders" in run_distill("--labeled", str(labels / "cat"))
    (labels / "eel").mkdir()
    (labels / "cat" / "0.png").rename(labels / "eel" / "0.png")
    assert "must have the class folders 'cat', 'dog'; differing: 'cat', 'eel'" in run_distill(
        "--labeled", str(labels)
    )
    (labels / "eel" / "0.png").rename(labels / "cat" / "0.png")
    run_distill("--labeled", str(labels))
    run_distill("--labeled", f"{folders}/train")
    run_distill("--labeled", f"{folders}/train", weight=0)
    assert [sorted(files.labels) for files in seen] == [[-1] * 16 + [0, 1], [0] * 8 + [1] * 8, [0] * 8 + [1] * 8]


@pytest.mark.parametrize(
    "command",
    [
        ("probe", "--model", "{pretrained}", "--labeled", "{train}", "--test"),
        ("finetune", "--labeled", "{train}", "--output", "{output}", "--test"),
        ("distill", "--teacher", "{finetuned}", "--images", "{train}", "--output", "{output}", "--test"),
        ("ablate", "temperature", "--data", "{train}", "--output", "{output}", "--test"),
        ("ablate", "temperature", "--data", "{other}", "--labeled", "{train}", "--output", "{output}", "--test"),
    ],
)
def test_test_image_that_is_trained_on_is_refused_by_name(folders, pretrained, finetuned, tmp_path, command):
    test = tmp_path / "test"
    for index, name in enumerate(["cat", "dog", "dog"]):
        (test / name).mkdir(parents=True, exist_ok=True)
        (test / name / f"{index}.png").write_bytes((folders / "train" / f"dog/{2 * index + 1}.png").read_bytes())
    paths = {
        "pretrained": pretrained,
        "finetuned": finetuned,
        "train": f"{folders}/train",
        "other": f"{folders}/test",
        "output": str(tmp_path / "output"),
    }
    message = run(*[argument.format(**paths) for argument in command], str(test), code=3)
    assert f"{test}/cat/0.png scores and is trained on as {folders}/train/dog/1.png, and 2 more" in message
    assert not (tmp_path / "output" / "checkpoints").exists()


class SigtermOnce:
    """Sends SIGTERM to this process when a training reports, once."""

    def __init__(self, send_sigterm):
        self._send_sigterm = send_sigterm
        self.seen = []

    @contextmanager
    def progress(self, stage, console):
        def report(progress):
            self.seen.append(progress.step)
            if len(self.seen) == 1:
                self._send_sigterm()

        yield report


def weights_in(output):
    with safetensors.safe_open(f"{output}/assets.extra/classifier.safetensors", "numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dictionary


@pytest.mark.parametrize("command", ["finetune", "distill"])
def test_command_stopped_by_sigterm_ends_in_good_order_and_goes_on(
    folders, pretrained, finetuned, tmp_path, monkeypatch, send_sigterm, command
):
    arguments = {
        "finetune": ("--model", pretrained, "--labeled", f"{folders}/train"),
        "distill": ("--teacher", finetuned, "--images", f"{folders}/train"),
    }[command]
    whole, stopped = str(tmp_path / "whole"), str(tmp_path / "stopped")
    run(command, *arguments, "--output", whole)
    bar = SigtermOnce(send_sigterm)
    monkeypatch.setattr(console, "progress", bar.progress)
    assert "stopped by SIGTERM after step 1 of" in run(command, *arguments, "--output", stopped)
    assert not os.path.exists(f"{stopped}/assets.extra")
    assert "classifier:" in run(command, *arguments, "--output", stopped)
    assert bar.seen[:2] == [1, 2]
    for name, value in weights_in(whole).items():
        np.testing.assert_array_equal(weights_in(stopped)[name], value)


def test_finetune_of_another_encoder_does_not_go_on_from_its_checkpoints(folders, pretrained, tmp_path):
    labeled = ("--labeled", f"{folders}/train", "--output", str(tmp_path / "tuned"))
    settings = [*SMALL, "finetune.steps=1", "finetune.head_layer=0"]
    run("finetune", "--model", pretrained, *labeled, settings=settings)
    encoder, config = export.load_encoder(pretrained)
    encoder.weights[0].assign_add(tf.ones_like(encoder.weights[0]))
    export.save_encoder(encoder, config, str(tmp_path / "other"))
    message = run("finetune", "--model", str(tmp_path / "other"), *labeled, settings=settings, code=3)
    assert "are of another training" in message and "pretrained:" in message


def test_export_of_a_classifier_serves_what_the_folder_scores(folders, finetuned, tmp_path):
    output = str(tmp_path / "served")
    assert "exported:" in run("export", "--model", finetuned, "--output", output, settings=[])
    files = open_folder(f"{folders}/test", short_side_px=8)
    expected = probes.classify(export.load_classifier(finetuned)[0], files)
    encoded = tf.constant([(folders / "test" / key).read_bytes() for key in expected.key])
    served = tf.saved_model.load(output).signatures["serving_default"](image_bytes=encoded)
    np.testing.assert_allclose(served["probabilities"], expected.probabilities, atol=1e-6)
    names = np.array(["cat", "dog"])[expected.probabilities.argmax(axis=1)]
    assert [label.decode() for label in served["label"].numpy()] == names.tolist()
    assert json.loads((tmp_path / "served" / "assets.extra" / "classes.json").read_text()) == ["cat", "dog"]


def test_export_of_an_encoder_serves_what_embed_writes(folders, pretrained, tmp_path):
    run("export", "--model", pretrained, "--output", str(tmp_path / "served"), settings=[])
    expected = probes.embed(export.load_encoder(pretrained)[0], open_folder(f"{folders}/test"))
    encoded = tf.constant([(folders / "test" / key).read_bytes() for key in expected.key])
    served = tf.saved_model.load(str(tmp_path / "served")).signatures["embed"](image_bytes=encoded)
    np.testing.assert_allclose(served["embedding"], expected.h, atol=1e-6)


def test_export_of_a_pretrainings_weights_holds_its_head_too(pretrained, tmp_path):
    path = str(tmp_path / "a" / "new folder" / "weights.safetensors")
    run("export", "--model", pretrained, "--output", path, settings=[])
    encoder, head = export.load_encoder(pretrained)[0], export.load_head(pretrained)[0]
    with safetensors.safe_open(path, "numpy") as file:
        assert len(file.keys()) == len(encoder.weights) + len(head.weights)
        np.testing.assert_array_equal(file.get_tensor("encoder/stem_conv/kernel"), encoder.get_weights()[0])
        np.testing.assert_array_equal(file.get_tensor("head/projection0/kernel"), head.get_weights()[0])


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_export_of_weights_holds_every_tensor_by_name(finetuned, tmp_path, suffix):
    path = str(tmp_path / f"weights{suffix}")
    run("export", "--model", finetuned, "--output", path, settings=[])
    model, _, _ = export.load_classifier(finetuned)
    expected = [weight.copy() for weight in model.get_weights()]
    for weight in model.weights:
        weight.assign(tf.zeros_like(weight))
    weights.load({"": model}, path)
    for value, other in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(value, other)


def test_export_of_a_folder_without_a_model_is_refused(folders, tmp_path):
    message = run("export", "--model", str(folders), "--output", str(tmp_path), settings=[], code=3)
    assert "holds neither an encoder nor a classifier" in message


def test_embed_writes_every_image_with_its_label(folders, pretrained, tmp_path):
    path = str(tmp_path / "a" / "new folder" / "h.parquet")
    run("embed", "--model", pretrained, "--images", f"{folders}/test", "--output", path)
    table = pq.read_table(path).to_pydict()
    assert sorted(table["key"]) == sorted(f"{('cat', 'dog')[i % 2]}/{i}.png" for i in range(16))
    assert [("cat", "dog")[label] for label in table["label_index"]] == [key[:3] for key in table["key"]]
    assert np.array(table["embedding"]).shape == (16, 4) and np.std(table["embedding"], axis=0).max() > 0


def test_config_prints_a_preset_that_loads_again(tmp_path):
    file = tmp_path / "method.yaml"
    file.write_text(run("config", "--preset", "imagenet_r50_v2", settings=[]))
    assert load(MethodConfig, defaults={}, path=str(file)).pretrain.head.layers == 3


@pytest.mark.parametrize(
    ("setting", "code", "message"),
    [
        ("pretrain.temprature=1", 2, "pretrain.temprature: there is no such field"),
        ("pretrain.batch_size=17", 3, "batch of 17 is larger"),
    ],
)
def test_mistake_ends_in_its_words_and_its_exit_code(folders, tmp_path, setting, code, message):
    where = ("--images", f"{folders}/train", "--output", str(tmp_path))
    assert message in run("pretrain", *where, settings=[*SMALL, setting], code=code)


def test_images_that_are_not_there_are_said_to_be_missing(tmp_path):
    message = run("pretrain", "--images", f"{tmp_path}/nowhere", "--output", str(tmp_path / "output"), code=3)
    assert message == f"nothing is at {tmp_path}/nowhere: give a folder of images, or a glob of TFRecords\n"
    assert not (tmp_path / "output").exists()


def test_output_that_cannot_be_written_is_said_in_words(folders, tmp_path):
    (tmp_path / "file").write_text("")
    where = ("--images", f"{folders}/train", "--output", str(tmp_path / "file"))
    assert run("pretrain", *where, code=1) == f"{tmp_path}/file is not a directory\n"


@pytest.mark.parametrize("damage", ["cut weights", "cut description", "nothing"])
def test_model_that_is_not_whole_is_named(folders, pretrained, tmp_path, damage):
    model = tmp_path / "model"
    if damage != "nothing":
        shutil.copytree(pretrained, model)
        [file] = model.rglob("encoder.safetensors" if damage == "cut weights" else "encoder.json")
        file.write_bytes(file.read_bytes()[:-10])
    output = ("--images", f"{folders}/test", "--output", str(tmp_path / "h.parquet"))
    message = run("embed", "--model", str(model), *output, code=3)
    assert str(model) in message and ("is not there" if damage == "nothing" else "is damaged") in message


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted: the same command goes on"),
        (OSError(28, "No space left on device"), 1, "[Errno 28] No space left on device"),
        (
            tf.errors.ResourceExhaustedError(None, None, "{{node x}} out of memory [Op:Add] name: "),
            1,
            "out of memory",
        ),
    ],
)
def test_what_breaks_a_command_off_has_its_code_and_its_words(monkeypatch, error, code, words):
    monkeypatch.setattr(cli, "dump", lambda config: (_ for _ in ()).throw(error))
    message = run("config", settings=[], code=code)
    assert message.startswith(words) and "{{" not in message and "[Op" not in message


def test_fault_of_our_own_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(cli, "dump", lambda config: {}["a fault"])
    with pytest.raises(KeyError):
        click.testing.CliRunner().invoke(cli.main, ["config"], catch_exceptions=False)


@pytest.mark.parametrize(("name", "message"), [("a.png", "no class folders"), ("gnu/a.png", "'gnu'")])
def test_test_folder_without_the_classes_is_refused(folders, pretrained, tmp_path, name, message):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    Image.new("RGB", (8, 8)).save(tmp_path / name)
    labeled = ("--labeled", f"{folders}/train", "--test", str(tmp_path))
    assert message in run("probe", "--model", pretrained, *labeled, code=3)
