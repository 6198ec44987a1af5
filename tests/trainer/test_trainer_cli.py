"""The trainer as a user starts it: each command reads what the one before wrote."""

import click.testing
import numpy as np
import pyarrow.parquet as pq
import pytest
from example_files import class_images
from PIL import Image

from trainer import cli
from trainer.config import MethodConfig, load

SMALL = [
    "pretrain.encoder.stage_blocks=[1]",
    "pretrain.encoder.width=4",
    "pretrain.batch_size=8",
    "pretrain.epochs=2",
    "finetune.steps=30",
    "finetune.head_layer=1",
    "supervised.steps=2",
    "distill.student.stage_blocks=[1]",
    "distill.student.width=4",
    "distill.epochs=2",
]


def run(*arguments, settings=SMALL, code=0):
    options = [option for setting in settings for option in ("--set", setting)]
    result = click.testing.CliRunner().invoke(cli.main, [*arguments, *options])
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


def test_embed_writes_every_image_with_its_label(folders, pretrained, tmp_path):
    run("embed", "--model", pretrained, "--images", f"{folders}/test", "--output", str(tmp_path / "h.parquet"))
    table = pq.read_table(tmp_path / "h.parquet").to_pydict()
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


def test_test_folder_without_the_classes_is_refused(folders, pretrained, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    labeled = ("--labeled", f"{folders}/train", "--test", str(tmp_path))
    assert "no class folders" in run("probe", "--model", pretrained, *labeled, code=3)
