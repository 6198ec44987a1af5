import json
from pathlib import Path

import pytest
from push_saved_models import save_model, save_pretrained, write_test_split
from tfx.dsl.components.common.importer import Importer
from tfx.orchestration import metadata
from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import KubeflowV2DagRunner, KubeflowV2DagRunnerConfig
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.pipeline import Pipeline
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from components.push.component import Push
from components.push.fingerprint import fingerprint


def import_artifact(name, artifact_type, directory, **properties):
    return Importer(source_uri=str(directory / name), artifact_type=artifact_type, **properties).with_id(name)


@pytest.fixture
def make_pipeline(tmp_path):
    (tmp_path / "Blessing").mkdir()
    save_model(tmp_path / "Model" / path_utils.path_constants.SERVING_MODEL_DIR, mistakes=2)
    save_pretrained(tmp_path / "Pretrained" / path_utils.path_constants.SERVING_MODEL_DIR)
    write_test_split(tmp_path / "Examples" / "Split-test")

    def make_pipeline(*, blessed):
        model = import_artifact("Model", standard_artifacts.Model, tmp_path)
        blessing = import_artifact(
            "Blessing", standard_artifacts.ModelBlessing, tmp_path, custom_properties={"blessed": blessed}
        )
        examples = import_artifact(
            "Examples", standard_artifacts.Examples, tmp_path, properties={"split_names": '["train", "test"]'}
        )
        pretrained = import_artifact("Pretrained", standard_artifacts.Model, tmp_path)
        push = Push(
            model=model.outputs["result"],
            pretrained=pretrained.outputs["result"],
            blessing=blessing.outputs["result"],
            examples=examples.outputs["result"],
            destination=str(tmp_path / "pushed"),
            max_regression=0.02,
            judged_by="interval",
            confidence=0.95,
            resamples=1000,
            seed=0,
            code_version="abc",
        )
        return Pipeline(
            pipeline_name="push",
            pipeline_root=str(tmp_path / "root"),
            components=[model, pretrained, blessing, examples, push],
            metadata_connection_config=metadata.sqlite_metadata_connection_config(str(tmp_path / "mlmd.sqlite")),
        )

    return make_pipeline


def pushed_model(tmp_path):
    config = metadata.sqlite_metadata_connection_config(str(tmp_path / "mlmd.sqlite"))
    with metadata.Metadata(config) as handle:
        (artifact,) = handle.store.get_artifacts_by_type("PushedModel")
    decision = json.loads((Path(artifact.uri) / "decision.json").read_text())
    return artifact.custom_properties, decision


def test_local_run_of_a_blessed_model_pushes_it_and_records_where(make_pipeline, tmp_path):
    LocalDagRunner().run(make_pipeline(blessed=1))
    properties, decision = pushed_model(tmp_path)
    assert properties["pushed"].int_value == 1
    assert properties["pushed_version"].string_value == "1"
    assert properties["pushed_destination"].string_value == str(tmp_path / "pushed" / "1")
    assert len(decision.pop("test_set")) == 64
    assert decision == {
        "blessed": True,
        "pushed": str(tmp_path / "pushed" / "1"),
        "version": "1",
        "reason": "Pushed as version 1: there was no champion to compare with.",
        "candidate_top1": 0.9,
        "champion_top1": None,
        "champion_version": None,
        "comparison": None,
        "test_set_changed": None,
        "best_version": None,
        "best_top1": None,
    }


def test_version_keeps_the_encoder_and_head_that_its_model_was_made_from(make_pipeline, tmp_path):
    LocalDagRunner().run(make_pipeline(blessed=1))
    added = tmp_path / "pushed" / "1" / "assets.extra" / "push"
    for name in ("encoder.safetensors", "head.safetensors", "encoder.json", "head.json"):
        assert (added / "pretrained" / "assets.extra" / name).read_text() == f"the {name}"
    pretraining = {"start": "scratch", "from_version": None, "encoder": "abc"}
    assert json.loads((added / "record.json").read_text())["pretraining"] == pretraining
    (line,) = (tmp_path / "pushed" / "HISTORY.jsonl").read_text().splitlines()
    assert json.loads(line)["pretraining"] == pretraining
    assert fingerprint(str(tmp_path / "pushed" / "1")) == fingerprint(str(tmp_path / "Model" / "Format-Serving"))


def test_local_run_of_a_model_that_is_not_blessed_succeeds_and_says_why(make_pipeline, tmp_path):
    LocalDagRunner().run(make_pipeline(blessed=0))
    properties, decision = pushed_model(tmp_path)
    assert properties["pushed"].int_value == 0
    assert "pushed_version" not in properties
    assert (decision["blessed"], decision["pushed"]) == (False, None)
    assert decision["reason"] == "Not pushed: the Evaluator did not bless the model."


def test_kubeflow_compilation_passes_numbers_and_text_only(make_pipeline, tmp_path):
    config = KubeflowV2DagRunnerConfig(default_image="image", use_pipeline_spec_2_1=True)
    output = tmp_path / "pipeline.json"
    KubeflowV2DagRunner(config=config, output_filename=str(output)).run(make_pipeline(blessed=1))
    spec = json.loads(output.read_text())["pipelineSpec"]
    parameters = spec["components"]["Push"]["inputDefinitions"]["parameters"]
    assert {name: parameter["parameterType"] for name, parameter in parameters.items()} == {
        "destination": "STRING",
        "max_regression": "NUMBER_DOUBLE",
        "judged_by": "STRING",
        "confidence": "NUMBER_DOUBLE",
        "resamples": "NUMBER_INTEGER",
        "seed": "NUMBER_INTEGER",
        "code_version": "STRING",
    }
