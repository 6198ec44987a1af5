"""Pretrain on two machines, a process each, as Vertex AI starts chief and worker: they leave what one leaves."""

import csv
import glob
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.dsl.components.common.importer import Importer
from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import KubeflowV2DagRunner, KubeflowV2DagRunnerConfig
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import trainer_pb2
from tfx.types import standard_artifacts

from components.training import pretrain
from pipeline.config import load_config
from pipeline.runners.custom_job import vertex_pretrainer
from pipeline.runners.rehearsal.run import rehearse
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


def losses(run):
    with open(run / "history.csv", newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def left(folder):
    """All files; TensorBoard's, whose names hold the time, as their folder."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(str((path.parent if "tfevents" in path.name else path).relative_to(folder)) for path in paths)


def assert_same(two, one):
    """Of the model and the run of two machines, and of one."""
    assert [left(folder) for folder in two] == [left(folder) for folder in one]
    # Float32 apart; half the negatives would be log 2 apart.
    np.testing.assert_allclose(losses(two[1]), losses(one[1]), rtol=1e-3)
    encoders = [export.load_encoder(str(model))[0].get_weights() for model, _ in (one, two)]
    for expected, found in zip(*encoders, strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-2, atol=2e-3)


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
    one, two = ((tmp_path / name / "model", tmp_path / name / "run") for name in ("one", "two"))
    assert_same(two, one)


@pytest.fixture
def compiled(tmp_path, transformed, arguments):
    """Pretrain alone as for Vertex AI: a PipelineJob whose node hires two machines; its images lie below gs://data."""
    data = tmp_path / "rehearsal" / "buckets" / "data"
    (data / "examples" / "Split-train").mkdir(parents=True)
    for file in glob.glob(transformed.examples):
        shutil.copy(file, data / "examples" / "Split-train")
    shutil.copytree(transformed.graph, data / "graph")
    settings = ["vertex.project=my-project", "vertex.image=image", "vertex.pretraining.machine_type=n1-highmem-8"]
    settings += ["vertex.pretraining.machines=2", "pretrain.compute.strategy=multi_worker"]
    vertex = load_config(None, settings).vertex
    properties = {"split_names": '["train"]'}
    examples = Importer("gs://data/examples", standard_artifacts.Examples, properties=properties).with_id("Examples")
    graph = Importer("gs://data/graph", standard_artifacts.TransformGraph).with_id("Graph")
    several = CONFIG.model_copy(update={"compute": ComputeConfig(strategy="multi_worker")})
    custom_config = arguments("compiled", several)["custom_config"] | {"checkpoint_root": "gs://bucket/checkpoints"}
    node = vertex_pretrainer(vertex, environment={"TF_USE_LEGACY_KERAS": "1"})(
        run_fn="components.training.pretrain.run_fn",
        examples=examples.outputs["result"],
        transform_graph=graph.outputs["result"],
        train_args=trainer_pb2.TrainArgs(splits=["train"]),
        eval_args=trainer_pb2.EvalArgs(splits=["train"]),
        custom_config=custom_config,
    ).with_id("Pretrain")
    runner = KubeflowV2DagRunner(KubeflowV2DagRunnerConfig(default_image="image", use_pipeline_spec_2_1=True))
    pipeline = Pipeline("pretrain", pipeline_root="gs://bucket/root", components=[examples, graph, node])
    (tmp_path / "job.json").write_text(json.dumps(runner.run(pipeline, write_out=False)))
    return tmp_path / "job.json"


@pytest.mark.slow
def test_rehearsed_job_of_two_machines_leaves_what_one_machine_leaves(tmp_path, arguments, compiled):
    rehearse(compiled, tmp_path / "rehearsal")
    pretrain.run_fn(FnArgs(**arguments("one")))
    [made] = (tmp_path / "rehearsal" / "buckets" / "bucket" / "root").glob("*/Pretrain_*")
    assert_same(
        (made / "model" / "Format-Serving", made / "model_run"),
        (tmp_path / "one" / "model", tmp_path / "one" / "run"),
    )
    log = (tmp_path / "rehearsal" / "logs" / "Pretrain.log").read_text()
    [told] = [line.partition(": ")[2] for line in log.splitlines() if line.startswith("CustomJob here: ")]
    assert [pool["replicaCount"] for pool in json.loads(told)["jobSpec"]["workerPoolSpecs"]] == ["1", "1"]
