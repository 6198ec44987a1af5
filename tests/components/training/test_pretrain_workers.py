"""Pretrain on several machines: they train one network, and only the chief writes it. Here: two processes."""

import csv
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tfx.components.trainer.fn_args_utils import FnArgs

from components.training import common, pretrain
from pipeline.config import load_config

ROOT = Path(__file__).resolve().parents[3]


def free_addresses(count: int) -> list[str]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("localhost", 0))
    addresses = [f"localhost:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return addresses


def write_examples(path: Path, count: int) -> None:
    generator = np.random.default_rng(0)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for index in range(count):
            png = tf.io.encode_png(generator.integers(0, 256, [8, 8, 3], dtype=np.uint8)).numpy()
            features = {name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value])) for name, value in
                        (("image", png), ("key", str(index).encode()))}  # fmt: skip
            for name in ("channel_mean", "channel_std"):
                features[name] = tf.train.Feature(float_list=tf.train.FloatList(value=[0.5] * 3))
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> Path:
    """What chief and worker left, each in a TF_CONFIG such as Vertex AI gives."""
    folder = tmp_path_factory.mktemp("workers")
    write_examples(folder / "examples", 16)
    for name in ("model", "run"):  # as TFX makes them
        (folder / "outputs" / name).mkdir(parents=True)
    chief, worker = free_addresses(2)
    processes = []
    for kind in ("chief", "worker"):
        tf_config = {"cluster": {"chief": [chief], "worker": [worker]}, "task": {"type": kind, "index": 0}}
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CONFIG": json.dumps(tf_config)}
        script = Path(__file__).with_name("pretraining_worker.py")
        command = [sys.executable, str(script), str(folder / "examples"), str(folder / "outputs")]
        temporary = folder / f"tmp-{kind}"
        temporary.mkdir()
        environment["TMPDIR"] = str(temporary)
        processes.append(
            subprocess.Popen(
                command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        )
    try:
        said = [process.communicate(timeout=150)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n\n".join(text[-3000:] for text in said)
    return folder / "outputs"


def test_workers_leave_one_whole_model_and_one_history(outputs):
    served = tf.saved_model.load(str(outputs / "model"))
    png = tf.io.encode_png(np.zeros([8, 8, 3], np.uint8))
    assert served.signatures["embed"](image_bytes=png[None])["embedding"].shape == [1, 4]
    assert {"encoder.safetensors", "head.safetensors"} <= {
        path.name for path in (outputs / "model" / "assets.extra").iterdir()
    }
    with (outputs / "run" / "history.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2", "3", "4"]
    assert len(list((outputs / "run" / "tensorboard").rglob("events.out.tfevents.*"))) == 1


class _Strategy:
    """As much of a strategy as decides who writes."""

    def __init__(self, *, is_chief: bool) -> None:
        self.extended = type("Extended", (), {"should_checkpoint": is_chief})


@pytest.mark.parametrize("is_chief", [True, False])
def test_only_the_chief_writes_into_the_outputs_and_the_models_folder_is_there(tmp_path, is_chief):
    fn_args = FnArgs(serving_model_dir=str(tmp_path / "model"), model_run_dir=str(tmp_path / "run"))
    with common.chiefs_outputs(fn_args, _Strategy(is_chief=is_chief)) as outputs:
        common.write_json(outputs.serving_model_dir, "a.json", {})
        common.write_json(outputs.model_run_dir, "b.json", {})
    assert (tmp_path / "model" / "a.json").exists() is is_chief
    assert (tmp_path / "run").exists() is is_chief
    assert (tmp_path / "model").exists()
    assert (fn_args.serving_model_dir, fn_args.model_run_dir) == (str(tmp_path / "model"), str(tmp_path / "run"))


def checkpoint_dir(*overrides: str, **changes) -> str:
    settings = {"seed": 1, "code_version": "1", "checkpoint_root": "gs://b/checkpoints", **changes}
    config = load_config(None, overrides).pretrain
    return pretrain._checkpoint_dir(FnArgs(train_files=["gs://b/examples/*"], custom_config=settings), config)


def test_training_goes_on_from_its_checkpoint_on_other_machines():
    spot = {"ai_platform_training_args": {"job_spec": {"scheduling": {"strategy": "SPOT"}}}}
    assert checkpoint_dir("pretrain.compute.strategy=tpu", **spot) == checkpoint_dir()
    assert checkpoint_dir().startswith("gs://b/checkpoints/")


def test_another_training_never_finds_its_checkpoints():
    others = [
        checkpoint_dir("pretrain.epochs=3"),
        checkpoint_dir("pretrain.compute.precision=mixed_bfloat16"),
        checkpoint_dir(seed=2),
        checkpoint_dir(code_version="2"),
    ]
    assert len({checkpoint_dir(), *others}) == 5
