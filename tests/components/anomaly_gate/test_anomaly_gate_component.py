import hashlib
import json

import pandas
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from tfx.components import ExampleValidator, SchemaGen, StatisticsGen
from tfx.dsl.components.common.importer import Importer
from tfx.orchestration import metadata
from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import KubeflowV2DagRunner, KubeflowV2DagRunnerConfig
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.pipeline import Pipeline
from tfx.types.standard_artifacts import Examples

from components.anomaly_gate.component import AnomalyGate
from components.anomaly_gate.findings import find_faults

REQUIRED = ("image_bytes", "label")


def features(split, i, label):
    key = f"{split}-{i}"
    return {
        "image_bytes": b"\xff\xd8" + key.encode(),
        "key": hashlib.sha256(key.encode()).hexdigest().encode(),
        **({"label": label.encode()} if label is not None else {}),
    }


def write(directory, split, labels):
    split_dir = directory / f"Split-{split}"
    split_dir.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(split_dir / "data_tfrecord-00000-of-00001.gz"), "GZIP") as writer:
        for i, label in enumerate(labels):
            example = tf.train.Example()
            for name, value in features(split, i, label).items():
                example.features.feature[name].bytes_list.value.append(value)
            writer.write(example.SerializeToString())


def statistics_of(split, labels):
    rows = pandas.DataFrame([features(split, i, label) for i, label in enumerate(labels)])
    return tfdv.generate_statistics_from_dataframe(rows)


def faults_of(*, train, test, required=REQUIRED):
    schema = tfdv.infer_schema(statistics_of("train", train))
    anomalies = tfdv.validate_statistics(statistics_of("test", test), schema)
    return find_faults({"test": anomalies}, schema, required_features=required)


CATS_AND_DOGS = ["cat", "dog"] * 10


def test_fit_examples_have_no_fault_though_their_keys_are_new():
    assert faults_of(train=CATS_AND_DOGS, test=CATS_AND_DOGS) == []


def test_unseen_class_is_named_with_its_split_share_and_remedy():
    (fault,) = faults_of(train=CATS_AND_DOGS, test=["cat", "dog", "cat", "zebra"])
    assert fault.startswith("The 'test' split has a class that the training split lacks: 'zebra' (~25%")
    assert "Add training images of each" in fault


def test_unseen_classes_with_odd_names_are_all_named():
    odd = ["yak's", "café", "日本", "a, b (~3%)", 'the "x"', "a\\b"]
    (fault,) = faults_of(train=CATS_AND_DOGS, test=[*CATS_AND_DOGS, *odd])
    assert "has 6 classes that" in fault
    assert all(f"'{name}' (" in fault for name in odd)


def test_many_unseen_classes_are_counted_not_listed():
    (fault,) = faults_of(train=CATS_AND_DOGS, test=[f"class {i:02}" for i in range(30)])
    assert "has 30 classes" in fault
    assert "'class 09'" in fault
    assert "'class 10'" not in fault
    assert "and 20 more" in fault


def test_label_missing_from_one_split_is_reported():
    (fault,) = faults_of(train=CATS_AND_DOGS, test=[None] * 4)
    assert fault.startswith("No example of the 'test' split has the feature 'label'.")


def test_label_missing_from_some_examples_is_reported_with_the_share():
    (fault,) = faults_of(train=CATS_AND_DOGS, test=["cat", None, "dog", None])
    assert fault.startswith("Feature 'label' of the 'test' split:")
    assert "actual = 0.5" in fault


def test_label_missing_from_the_schema_is_reported_once_as_the_missing_column():
    (fault,) = faults_of(train=[None] * 10, test=CATS_AND_DOGS)
    assert fault.startswith("The label column is missing: no training example has the feature 'label'.")
    assert "manifest with a label column" in fault


def test_label_missing_everywhere_is_no_fault_where_it_is_not_required():
    assert faults_of(train=[None] * 10, test=[None] * 4, required=["image_bytes"]) == []


def test_required_feature_missing_from_the_schema_is_named():
    (fault,) = faults_of(train=CATS_AND_DOGS, test=CATS_AND_DOGS, required=["image_bytes", "label", "width"])
    assert fault.startswith("The feature 'width' is missing")


def test_split_without_examples_is_reported():
    (fault,) = faults_of(train=CATS_AND_DOGS, test=[])
    assert fault.startswith("The 'test' split has no examples.")


def stock_pipeline(directory):
    examples = Importer(
        source_uri=str(directory / "examples"),
        artifact_type=Examples,
        properties={"split_names": '["train", "test"]'},
    ).with_id("Examples")
    statistics = StatisticsGen(examples=examples.outputs["result"])
    schema = SchemaGen(statistics=statistics.outputs["statistics"], exclude_splits=["test"])
    validator = ExampleValidator(statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"])
    gate, after = (
        AnomalyGate(
            anomalies=validator.outputs["anomalies"],
            schema=schema.outputs["schema"],
            required_features=json.dumps(REQUIRED),
            source="LABELED",
        ).with_id(node)
        for node in ("Gate", "After")
    )
    after.add_upstream_node(gate)
    return Pipeline(
        pipeline_name="gate",
        pipeline_root=str(directory / "root"),
        components=[examples, statistics, schema, validator, gate, after],
        enable_cache=True,
        metadata_connection_config=metadata.sqlite_metadata_connection_config(str(directory / "mlmd.sqlite")),
    )


def executions(directory, node):
    store = metadata.Metadata(metadata.sqlite_metadata_connection_config(str(directory / "mlmd.sqlite")))
    with store as handle:
        context = handle.store.get_context_by_type_and_name("node", f"gate.{node}")
        found = handle.store.get_executions_by_context(context.id) if context else []
    names = {2: "running", 3: "complete", 4: "failed", 5: "cached"}
    return [names[execution.last_known_state] for execution in sorted(found, key=lambda execution: execution.id)]


def test_local_run_over_stock_nodes_passes_and_is_cached_though_it_has_no_output(tmp_path):
    for split in ("train", "test"):
        write(tmp_path / "examples", split, CATS_AND_DOGS)
    LocalDagRunner().run(stock_pipeline(tmp_path))
    LocalDagRunner().run(stock_pipeline(tmp_path))
    assert executions(tmp_path, "Gate") == ["complete", "cached"]


def test_local_run_over_stock_nodes_stops_with_the_message_and_runs_nothing_after_it(tmp_path):
    write(tmp_path / "examples", "train", CATS_AND_DOGS)
    write(tmp_path / "examples", "test", ["zebra", *CATS_AND_DOGS])
    with pytest.raises(ValueError, match=r"The images of LABELED cannot be trained on:\n.*'zebra'"):
        LocalDagRunner().run(stock_pipeline(tmp_path))
    assert executions(tmp_path, "Gate") == ["failed"]
    assert executions(tmp_path, "After") == []


def test_kubeflow_compilation_orders_downstream_nodes_after_the_gate(tmp_path):
    config = KubeflowV2DagRunnerConfig(default_image="image", use_pipeline_spec_2_1=True)
    output = tmp_path / "pipeline.json"
    KubeflowV2DagRunner(config=config, output_filename=str(output)).run(stock_pipeline(tmp_path))
    tasks = json.loads(output.read_text())["pipelineSpec"]["root"]["dag"]["tasks"]
    assert "Gate" in tasks["After"]["dependentTasks"]
