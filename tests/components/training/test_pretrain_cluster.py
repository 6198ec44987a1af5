"""Pretrain on two machines, a process each, as Vertex AI starts chief and worker: they leave what one leaves."""

import csv
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tfx.components.trainer.fn_args_utils import FnArgs

from components.training import pretrain
from trainer import export
from trainer.config import (
    AugmentConfig,
    ComputeConfig,
    CropConfig,
    EncoderConfig,
    HeadConfig,
    OptimizerConfig,
    PretrainConfig,
)

ROOT = Path(__file__).parents[3]
WORKER = Path(__file__).with_name("worker.py")
CONFIG = PretrainConfig(
    encoder=EncoderConfig(stage_blocks=(1,), width=4),
    head=HeadConfig(output_dim=4),
    augment=AugmentConfig(crop=CropConfig(size_px=16), jitter_strength=0.0),
    batch_size=8,
    epochs=2,
    optimizer=OptimizerConfig(learning_rate=0.1),  # so slow that float32's roundings do not grow
)


@pytest.fixture
def arguments(tmp_path, transformed):
    """FnArgs, as keywords, of a pretraining into a folder of its own."""

    def arguments(folder, config=CONFIG):
        (tmp_path / folder / "run").mkdir(parents=True)  # as the orchestrator does
        return {
            "train_files": [transformed.examples],
            "transform_graph_path": transformed.graph,
            "serving_model_dir": str(tmp_path / folder / "model"),
            "model_run_dir": str(tmp_path / folder / "run"),
            "custom_config": {
                "config": config.model_dump_json(),
                "seed": 0,
                "checkpoint_root": str(tmp_path / folder / "checkpoints"),
                "code_version": "",
            },
        }

    return arguments


def start(arguments, cluster, kind, *, log):
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": kind, "index": 0}}),
    }
    with open(log, "w") as said:
        worker = subprocess.Popen(
            [sys.executable, WORKER], cwd=ROOT, env=environment, stdin=subprocess.PIPE, stderr=said, text=True
        )
    worker.stdin.write(json.dumps(arguments))
    worker.stdin.close()
    return worker


def free_address():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"


def losses(folder):
    with open(folder / "run" / "history.csv", newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def left(folder):
    """All files; TensorBoard's, whose names hold the time, as their folder."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(str((path.parent if "tfevents" in path.name else path).relative_to(folder)) for path in paths)


@pytest.mark.slow
def test_chief_and_worker_leave_what_one_machine_leaves(tmp_path, arguments):
    pretrain.run_fn(FnArgs(**arguments("one")))
    several = CONFIG.model_copy(update={"compute": ComputeConfig(strategy="multi_worker")})
    of_both = arguments("two", several)
    cluster = {kind: [free_address()] for kind in ("chief", "worker")}
    logs = [tmp_path / kind for kind in cluster]
    workers = [start(of_both, cluster, kind, log=log) for kind, log in zip(cluster, logs, strict=True)]
    try:
        codes = [worker.wait(timeout=500) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert codes == [0, 0], "\n".join(log.read_text() for log in logs)
    one, two = tmp_path / "one", tmp_path / "two"
    assert left(two) == left(one)
    # Float32 apart; half the negatives would be log 2 apart.
    np.testing.assert_allclose(losses(two), losses(one), rtol=1e-3)
    encoders = [export.load_encoder(str(folder / "model"))[0].get_weights() for folder in (one, two)]
    for expected, found in zip(*encoders, strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-2, atol=2e-3)
