"""The job graphs of the nodes that hire workers, as Dataflow would get them: made by their executors, not sent."""

from collections.abc import Callable, Mapping
from typing import Any

import apache_beam as beam
import pytest
import tensorflow as tf
from apache_beam.portability.api import beam_runner_api_pb2
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from test_dataflow import HIRING, IMAGE, example
from tfx import types
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import artifact_utils, standard_artifacts

from pipeline.pipeline import Locations, create_pipeline
from pipeline.runners.dataflow import dataflow_args

_SCHEMA = "".join(
    f'feature {{ name: "{name}" type: {kind} presence {{ min_fraction: 1.0 }} shape {{ dim {{ size: 1 }} }} }}'
    for name, kind in (
        ("image_bytes", "BYTES"),
        ("key", "BYTES"),
        ("label", "BYTES"),
        ("height", "INT"),
        ("width", "INT"),
    )
)


class BuiltError(Exception):
    """The first job of a node was made, and would now be sent."""


@pytest.fixture(scope="module")
def nodes(class_folders, flat_folder, tmp_path_factory):
    """Nodes of a pipeline that is run again on new data, by their names without what they are of."""
    sources = {"labeled": class_folders, "unlabeled": flat_folder, "test": class_folders}
    config = example(
        *(f"data.{name}={path}" for name, path in sources.items()),
        f"retrain.store={tmp_path_factory.mktemp('store')}",
        "retrain.settle_s=0",
    )
    pipeline = create_pipeline(config, Locations(artifacts="a", checkpoints="c", pushed="p"))
    return {component.id.partition("-")[0]: component for component in reversed(pipeline.components)}


@pytest.fixture
def examples(tmp_path):
    found = standard_artifacts.Examples()
    found.uri, found.split_names = str(tmp_path / "examples"), artifact_utils.encode_split_names(["train", "test"])
    for split in ("train", "test"):
        file = tmp_path / "examples" / f"Split-{split}" / "data.gz"
        file.parent.mkdir(parents=True)
        with tf.io.TFRecordWriter(str(file), "GZIP"):
            pass
    return found


@pytest.fixture
def schema(tmp_path):
    found = standard_artifacts.Schema()
    found.uri = str(tmp_path / "schema")
    (tmp_path / "schema").mkdir()
    text = text_format.MessageToString(text_format.Parse(_SCHEMA, schema_pb2.Schema()))
    (tmp_path / "schema" / "schema.pbtxt").write_text(text)
    return found


@pytest.fixture
def job_of(nodes, tmp_path, monkeypatch) -> Callable[[str, Mapping[str, types.Artifact]], Any]:
    """Runs a node's executor with Dataflow's arguments until its first job is made, which a dry run does not send."""
    jobs: list[Any] = []
    run = beam.Pipeline.run

    def run_once(self: beam.Pipeline, *arguments: Any, **settings: Any) -> None:
        jobs.append(run(self, *arguments, **settings).job)
        raise BuiltError

    def job_of(name: str, inputs: Mapping[str, types.Artifact]) -> Any:
        node = nodes[name]
        made = {}
        for key, channel in node.outputs.items():
            made[key] = channel.type()
            made[key].uri = str(tmp_path / "outputs" / key)
        arguments = [*dataflow_args(example()), "--dry_run=true"]
        context = BaseBeamExecutor.Context(beam_pipeline_args=arguments, tmp_dir=str(tmp_path), unique_id="1")
        executor = node.executor_spec.executor_class(context)
        monkeypatch.setattr(beam.Pipeline, "run", run_once)
        with pytest.raises(BuiltError):
            executor.Do(
                {k: [v] for k, v in inputs.items()}, {k: [v] for k, v in made.items()}, dict(node.exec_properties)
            )
        [job] = jobs
        return job

    return job_of


@pytest.mark.parametrize("name", sorted(HIRING | {"SpanIngest"}))
def test_job_of_a_node_runs_the_pipelines_image_alone_and_installs_nothing(job_of, examples, schema, name):
    given = {
        "ImageExampleGen": {},
        "SpanIngest": {"exclude": examples},
        "LeakageGate": {"labeled": examples, "unlabeled": examples},
        "Transform": {"examples": examples, "schema": schema},
    }
    job = job_of(name, given.get(name, {"examples": examples}))
    parts = job.proto_pipeline.components
    payloads = [beam_runner_api_pb2.DockerPayload.FromString(one.payload) for one in parts.environments.values()]
    assert {payload.container_image for payload in payloads} == {IMAGE}
    assert [list(one.dependencies) for one in parts.environments.values()] == [[]] * len(payloads)
    assert any("Read" in transform.unique_name for transform in parts.transforms.values())
    assert len(parts.transforms) > 10
