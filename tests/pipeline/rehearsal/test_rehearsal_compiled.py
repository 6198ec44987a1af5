"""What KubeflowV2DagRunner compiles, run through TFX's own entry points: executors, driver, importer."""

import json
from pathlib import Path

import pytest
import rehearsed_components
import rehearsed_jobs
from tfx.components import CsvExampleGen
from tfx.dsl.components.common.importer import Importer
from tfx.dsl.experimental.conditionals.conditional import Cond
from tfx.orchestration.data_types import RuntimeParameter
from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import KubeflowV2DagRunner, KubeflowV2DagRunnerConfig
from tfx.orchestration.pipeline import Pipeline
from tfx.types import standard_artifacts

from pipeline.runners.rehearsal.images import Image, Images
from pipeline.runners.rehearsal.run import rehearse
from pipeline.runners.rehearsal.specification import RefusedError, read_job


def _compile(folder: Path, images: Path) -> Path:
    examples = Importer(
        source_uri="gs://data/examples",
        artifact_type=standard_artifacts.Examples,
        properties={"split_names": '["train"]', "span": 3},
    ).with_id("Examples")
    table = CsvExampleGen(input_base="gs://data/csv")
    write = rehearsed_components.Write(number=3, secret=True)
    # Not on what Read itself reads: of that TFX compiles a condition on an input that there isn't.
    span = examples.outputs["result"].future()[0].property("span")
    with Cond(span == 3):
        read = rehearsed_components.Read(note=write.outputs["note"])
    with Cond(span > 3):
        not_read = rehearsed_components.Read(note=write.outputs["note"]).with_id("NotRead")
    config = KubeflowV2DagRunnerConfig(default_image="image", use_pipeline_spec_2_1=True)
    runner = KubeflowV2DagRunner(config, output_dir=str(folder), output_filename="job.json")
    runner.run(
        Pipeline(
            pipeline_name="small",
            pipeline_root="gs://bucket/root",
            components=[examples, table, write, read, not_read],
            enable_cache=True,
        )
    )
    return folder / "job.json"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compiled")
    data = folder / "buckets" / "data"
    for split, name, text in (("examples", "part.gz", ""), ("csv", "table.csv", "x\n1\n2\n")):
        (data / split).mkdir(parents=True)
        (data / split / name).write_text(text)
    images = Images(Image(workdir=Path(rehearsed_components.__file__).parent))
    return rehearse(_compile(folder, data), folder, images=images).results


def _uri(results, task, key):
    return Path(results[task].made.artifacts[key]["uri"])


def test_all_tasks_run_but_the_one_whose_condition_fails(results):
    states = {name: result.state.name for name, result in results.items()}
    assert states.pop("NotRead") == "NOT_TRIGGERED"
    assert set(states.values()) == {"SUCCEEDED"}


def test_functions_get_parameters_in_the_types_that_vertex_hands_over(results):
    assert json.loads(_uri(results, "Read", "copy").read_text()) == {"number": 3, "of": "int", "secret": 1}
    assert results["Write"].made.artifacts["note"]["metadata"]["number"] == 3


def test_driver_hands_span_and_fingerprint_to_the_executor(results):
    [examples] = results["CsvExampleGen"].made.artifacts.values()
    assert "table.csv" not in examples["uri"]
    assert "total_bytes:6" in examples["metadata"]["input_fingerprint"]
    assert sorted(path.name for path in Path(examples["uri"]).iterdir()) == ["Split-eval", "Split-train"]


def test_runtime_parameter_whose_default_tfx_drops_is_refused(tmp_path):
    write = rehearsed_components.Write(number=RuntimeParameter("number", int, default=3))
    job = json.loads(rehearsed_jobs.compiled(tmp_path, [write]).read_text())
    with pytest.raises(RefusedError, match="parameter 'number' has no value"):
        read_job(job)
