"""What only the cloud's form of the pipeline has, compiled and rehearsed: a CustomJob on a TPU, an exit handler."""

import json
from pathlib import Path

import golden_requests
import pytest
import rehearsed_components
import rehearsed_jobs
from tfx.dsl.components.common.importer import Importer
from tfx.orchestration.kubeflow.decorators import FinalStatusStr
from tfx.proto import trainer_pb2
from tfx.types import standard_artifacts

from components.run_summary.component import RunSummary
from pipeline.runners.custom_job import vertex_pretrainer
from pipeline.runners.rehearsal.run import TaskFailedError, rehearse

_TPU = ("vertex.pretraining.image=image-of-the-tpu", "vertex.pretraining.spot=true")


def _pretrain(images: Importer):
    """Pretrain as `compile_pipeline` makes it, with another function to run; its machine is one TPU v5e host."""
    vertex = golden_requests.config(*_TPU).vertex
    return vertex_pretrainer(vertex, environment={"OF_THE_POOL": "1"})(
        examples=images.outputs["result"],
        run_fn="rehearsed_components.train",
        train_args=trainer_pb2.TrainArgs(num_steps=1),
        eval_args=trainer_pb2.EvalArgs(num_steps=1),
        custom_config={"temperature": 0.5},
    ).with_id("Pretrain")


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    """A run of which Drift fails, after Push and beside Pretrain."""
    folder = tmp_path_factory.mktemp("failed")
    (folder / "buckets" / "data").mkdir(parents=True)
    splits = {"split_names": '["train", "eval"]'}
    images = Importer(source_uri="gs://data", artifact_type=standard_artifacts.Examples, properties=splits)
    images = images.with_id("Images")
    push = rehearsed_components.Decide().with_id("Push")
    drift = rehearsed_components.Break(pushed_model=push.outputs["pushed_model"]).with_id("Drift")
    after = rehearsed_components.Break(pushed_model=push.outputs["pushed_model"]).with_id("Report")
    after.add_upstream_node(drift)
    handler = RunSummary(
        final_status=FinalStatusStr(),
        destination="gs://bucket/root/summaries",
        runs="gs://bucket/root",
        region="us-central1",
        configuration="seed: 1",
    )
    job = rehearsed_jobs.compiled(folder, [images, push, drift, after, _pretrain(images)], exit_handler=handler)
    with pytest.raises(TaskFailedError) as error:
        rehearse(job, folder, images=rehearsed_jobs.images())
    assert error.value.node == "Drift"
    return folder


@pytest.fixture(scope="module")
def summary(failed):
    [file] = (failed / "buckets" / "bucket" / "root" / "summaries").iterdir()
    return json.loads(file.read_text())


def test_exit_handler_names_the_failed_node_and_its_error(summary):
    assert (summary["state"], summary["succeeded"]) == ("FAILED", False)
    assert summary["error"]["message"].endswith("The failed tasks are: [Drift].")
    [one] = summary["failed"]
    assert one["node"] == "Drift"
    assert "its container ended with exit code 1" in one["error"]
    assert "ValueError: The images of LABELED cannot be trained on: label zebra is new." in one["error"]


def test_exit_handler_tells_of_all_nodes_with_their_seconds_and_what_they_made(summary, failed):
    nodes = {node["name"]: node for node in summary["nodes"]}
    assert {name: node["state"] for name, node in nodes.items()} == {
        "Images": "SUCCEEDED", "Push": "SUCCEEDED", "Pretrain": "SUCCEEDED", "Drift": "FAILED", "Report": "CANCELLED",
    }  # fmt: skip
    assert nodes["Report"]["seconds"] is None
    assert 0 < nodes["Push"]["seconds"] <= summary["seconds"]
    assert Path(nodes["Pretrain"]["outputs"]["model"]).parts[: len(failed.parts)] == failed.parts


def test_exit_handler_has_the_results_of_the_nodes_that_ended_well(summary):
    assert summary["results"]["decision"] == {
        "blessed": True, "reason": "Better than version 2.", "pushed": "gs://b/pushed/3", "version": "3",
    }  # fmt: skip
    assert summary["links"]["pushed"] == "gs://b/pushed/3"
    assert summary["results"]["accuracies"] is None
    assert (summary["unread"], summary["configuration"]) == ([], "seed: 1")


def test_exit_handler_says_it_in_words_in_its_log(failed):
    log = (failed / "logs" / "RunSummary.log").read_text()
    assert "Drift failed: its container ended with exit code 1" in log
    assert "Better than version 2." in log


@pytest.fixture(scope="module")
def told(failed):
    """How the process that trained was started."""
    [file] = failed.glob("buckets/bucket/root/*/Pretrain_*/model_run/told.json")
    return json.loads(file.read_text())


def test_custom_job_is_intercepted_with_its_worker_pool_of_one_tpu_host(failed):
    lines = (failed / "logs" / "Pretrain.log").read_text().splitlines()
    [job] = [json.loads(line.partition(": ")[2]) for line in lines if line.startswith("CustomJob here: ")]
    [pool] = job["jobSpec"]["workerPoolSpecs"]
    assert pool["machineSpec"] == {"machineType": "ct5lp-hightpu-4t", "tpuTopology": "2x2"}
    assert pool["replicaCount"] == "1"
    assert pool["containerSpec"]["imageUri"] == "image-of-the-tpu"
    assert pool["containerSpec"]["command"][:3] == ["python", "-m", "tfx.scripts.run_executor"]
    assert job["jobSpec"]["scheduling"]["strategy"] == "SPOT"


def test_custom_job_ran_by_the_command_and_with_the_variables_of_its_worker_pool(told, failed):
    program, *arguments = told["arguments"]
    assert program.endswith("tfx/scripts/run_executor.py")
    given = dict(zip(arguments[::2], arguments[1::2], strict=True))
    assert given["--executor_class_path"] == "tfx.components.trainer.executor.GenericExecutor"
    assert told["variables"]["OF_THE_POOL"] == "1"
    assert "TF_CONFIG" not in told["variables"]
    assert told["custom_config"]["temperature"] == 0.5
