"""The executor: which files reach the run_fn, and that the workers of a CustomJob run the same one."""

import json

import pytest
from tfx.proto import trainer_pb2
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import name_utils, proto_utils

from components.distill import executor


def examples(uri, *splits):
    artifact = standard_artifacts.Examples()
    artifact.uri, artifact.split_names = str(uri), artifact_utils.encode_split_names(list(splits))
    artifact.set_string_custom_property("payload_format", "FORMAT_TF_EXAMPLE")
    artifact.set_string_custom_property("file_format", "tfrecords_gzip")
    artifact.set_string_custom_property("tfx_version", "1.16.0")
    return [artifact]


def model(uri, kind=standard_artifacts.Model):
    artifact = kind()
    artifact.uri = str(uri)
    return [artifact]


@pytest.fixture
def fn_args():
    return executor.Executor()._GetFnArgs(
        {
            "examples": examples("labeled", "test", "fraction-10pct", "fraction-100pct"),
            "unlabeled": examples("unlabeled", "train", "test"),
            "base_model": model("teacher"),
        },
        {"model": model("made"), "model_run": model("ran", standard_artifacts.ModelRun)},
        {
            "train_args": proto_utils.proto_to_json(trainer_pb2.TrainArgs(splits=["fraction-10pct"])),
            "eval_args": proto_utils.proto_to_json(trainer_pb2.EvalArgs(splits=["test"])),
            "custom_config": json.dumps({"seed": 1}),
        },
    )


def test_run_fn_is_given_the_fraction_the_test_images_and_the_unlabeled_images(fn_args):
    assert fn_args.train_files == ["labeled/Split-fraction-10pct/*"]
    assert fn_args.eval_files == ["labeled/Split-test/*"]
    assert fn_args.custom_config == {"seed": 1, "unlabeled_files": ["unlabeled/Split-train/*"]}
    assert fn_args.base_model == "teacher/Format-Serving"


def test_workers_on_vertex_run_this_executor():
    from components.distill import on_vertex  # brings the SDK of Vertex AI

    run_by_workers = on_vertex.Executor()._GetExecutorClass()
    assert name_utils.get_full_name(run_by_workers) == "components.distill.executor.Executor"
