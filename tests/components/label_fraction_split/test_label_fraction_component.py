import json

import tensorflow as tf
from tfx.dsl.components.common.importer import Importer
from tfx.orchestration import metadata
from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import KubeflowV2DagRunner, KubeflowV2DagRunnerConfig
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.pipeline import Pipeline
from tfx.types.standard_artifacts import Examples

from components.label_fraction_split.component import LabelFractionSplit


def make_pipeline(directory):
    for split in ("train", "test"):
        (directory / "examples" / f"Split-{split}").mkdir(parents=True)
        path = str(directory / "examples" / f"Split-{split}" / "transformed_examples-00000-of-00001.gz")
        with tf.io.TFRecordWriter(path, "GZIP") as writer:
            for index, label in enumerate(("cat", "dog")):
                example = tf.train.Example()
                example.features.feature["key"].bytes_list.value.append(f"{split}-{label}".encode())
                example.features.feature["label"].bytes_list.value.append(label.encode())
                example.features.feature["label_index"].int64_list.value.append(index)
                writer.write(example.SerializeToString())
    examples = Importer(
        source_uri=str(directory / "examples"),
        artifact_type=Examples,
        properties={"split_names": '["train", "test"]'},
    ).with_id("Examples")
    fractions = LabelFractionSplit(examples.outputs["result"], fractions="[0.01]", seed=0, code_version="abc")
    return Pipeline(
        pipeline_name="fractions",
        pipeline_root=str(directory / "root"),
        components=[examples, fractions],
        metadata_connection_config=metadata.sqlite_metadata_connection_config(str(directory / "mlmd.sqlite")),
    )


def test_local_run_writes_manifest_and_splits(tmp_path):
    LocalDagRunner().run(make_pipeline(tmp_path))
    outputs = tmp_path / "root" / "LabelFractionSplit"
    (manifest,) = outputs.glob("manifest/*/manifest.json")
    assert json.loads(manifest.read_text())["fractions"]["0.01"]["keys"] == {
        "cat": ["train-cat"],
        "dog": ["train-dog"],
    }
    splits = {path.parent.name for path in outputs.glob("fraction_examples/*/*/data_tfrecord-00000-of-00001.gz")}
    assert splits == {"Split-fraction-1pct", "Split-test"}


def test_kubeflow_compilation_passes_numbers_and_text_only(tmp_path):
    config = KubeflowV2DagRunnerConfig(default_image="image", use_pipeline_spec_2_1=True)
    output = tmp_path / "pipeline.json"
    KubeflowV2DagRunner(config=config, output_filename=str(output)).run(make_pipeline(tmp_path))
    component = json.loads(output.read_text())["pipelineSpec"]["components"]["LabelFractionSplit"]
    parameters = component["inputDefinitions"]["parameters"]
    assert {name: parameter["parameterType"] for name, parameter in parameters.items()} == {
        "fractions": "STRING",
        "seed": "NUMBER_INTEGER",
        "code_version": "STRING",
    }
    manifest = component["outputDefinitions"]["artifacts"]["manifest"]
    assert "components.LabelFractions" in manifest["artifactType"]["instanceSchema"]
