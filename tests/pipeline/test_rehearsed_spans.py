"""The compiled condition over a source that grows, in containers as Vertex AI would start them."""

import shutil
from pathlib import Path

import pytest
import span_graph
from tfx.dsl.components.common.importer import Importer
from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import KubeflowV2DagRunner, KubeflowV2DagRunnerConfig
from tfx.orchestration.pipeline import Pipeline
from tfx.types import standard_artifacts

from components.span_ingest.store import SpanStore
from pipeline.config import load_config
from pipeline.runners.rehearsal.images import Image, Images
from pipeline.runners.rehearsal.result import Result
from pipeline.runners.rehearsal.run import rehearse
from pipeline.runners.results import decision_in_words

_PROPERTIES = {"split_names": '["train", "test"]'}


def compiled(folder: Path) -> Path:
    config = load_config(
        None, ["data.unlabeled=gs://bucket/in", "data.labeled=gs://bucket/labeled", "retrain.store=gs://bucket/store"]
    )
    # In the place of the ingestion of labelled images, whose container would take as long again to start.
    images = Importer(
        source_uri="gs://bucket/labeled",
        artifact_type=standard_artifacts.Examples,
        properties=_PROPERTIES,
        output_key="examples",
    )
    nodes = span_graph.nodes(config, images.with_id("ImageExampleGen-labeled"))
    runner = KubeflowV2DagRunner(
        KubeflowV2DagRunnerConfig(default_image="image", use_pipeline_spec_2_1=True),
        output_dir=str(folder),
        output_filename="job.json",
    )
    runner.run(Pipeline(pipeline_name="small", pipeline_root="gs://bucket/root", components=nodes))
    return folder / "job.json"


class Weeks:
    """A source in a folder that stands for a bucket, and rehearsals over it."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._bucket = folder, folder / "buckets" / "bucket"
        for name in ("in", "labeled/Split-train", "labeled/Split-test"):
            (self._bucket / name).mkdir(parents=True)
        self._job = compiled(folder)
        self.store = SpanStore(str(self._bucket / "store"))

    def deliver(self, files: dict[str, bytes]) -> None:
        for name, data in files.items():
            (self._bucket / "in" / name).write_bytes(data)

    def rehearse(self) -> dict[str, Result]:
        return rehearse(
            self._job, self._folder, images=Images(Image(workdir=Path(span_graph.__file__).parent))
        ).results


@pytest.fixture
def weeks(tmp_path):
    yield Weeks(tmp_path)
    shutil.rmtree(tmp_path, ignore_errors=True)


def assert_left_out(results: dict[str, Result]) -> None:
    states = {name: result.state.name for name, result in results.items()}
    assert states.pop("ImageExampleGen-labeled") == states.pop("SpanIngest") == "SUCCEEDED"
    assert states == {"Count": "NOT_TRIGGERED", "SpanTrained": "NOT_TRIGGERED"}
    made = results["SpanIngest"].made.artifacts.values()
    assert "no new images: nothing to do" in decision_in_words(one["uri"] for one in made)


@pytest.mark.slow
def test_new_images_go_on_to_what_waits_for_them_and_nothing_new_ends_well_without_it(weeks, sample_pngs):
    """Each container takes seconds to import TFX."""
    assert_left_out(weeks.rehearse())
    assert weeks.store.spans() == [] and weeks.store.trained() == 0

    cats = sample_pngs["cat"]
    weeks.deliver({f"{number}.png": cats[number] for number in (20, 21, 22)})
    first = weeks.rehearse()
    assert {result.state.name for result in first.values()} == {"SUCCEEDED"}
    assert Path(first["Count"].made.artifacts["report"]["uri"], span_graph.COUNTED).read_text() == "3"
    assert weeks.store.trained() == 1

    weeks.deliver({"copy.png": cats[20]})
    assert_left_out(weeks.rehearse())
    assert [(span.number, span.counts.kept) for span in weeks.store.spans()] == [(1, 3), (2, 0)]
    assert weeks.store.trained() == 1
