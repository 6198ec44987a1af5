import json
from pathlib import Path

import pytest
from report_artifacts import write_sources
from tfx.dsl.components.common.importer import Importer
from tfx.orchestration import metadata
from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import KubeflowV2DagRunner, KubeflowV2DagRunnerConfig
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.pipeline import Pipeline
from tfx.types import standard_artifacts

from components.artifacts import IngestSummary, LabelFractions, ProbeResults
from components.report.component import Report


def _pipeline(root: Path, sources, *, with_pushed_model: bool = True) -> Pipeline:
    nodes = []

    def imported(name, uri, artifact_type):
        node = Importer(source_uri=uri, artifact_type=artifact_type).with_id(name)
        nodes.append(node)
        return node.outputs["result"]

    unlabeled, labeled = sources.ingest_summaries
    pushed_model = None
    if with_pushed_model:
        pushed_model = imported("pushed", sources.pushed_model, standard_artifacts.PushedModel)
    report = Report(
        unlabeled_summary=imported("unlabeled", unlabeled, IngestSummary),
        labeled_summary=imported("labeled", labeled, IngestSummary),
        pretrain_run=imported("pretrain", sources.pretrain_run, standard_artifacts.ModelRun),
        label_fractions=imported("fractions", sources.label_fractions, LabelFractions),
        probe_results=imported("probes", sources.probe_results, ProbeResults),
        runs=[
            imported(f"run{position}", uri, standard_artifacts.ModelRun) for position, uri in enumerate(sources.runs)
        ],
        pushed_model=pushed_model,
        configuration=sources.configuration,
        run_record=sources.run_record,
        code_version=sources.code_version,
    )
    return Pipeline(
        pipeline_name="report",
        pipeline_root=str(root / "pipeline"),
        components=[*nodes, report],
        metadata_connection_config=metadata.sqlite_metadata_connection_config(str(root / "metadata.db")),
    )


@pytest.mark.parametrize("fractions", [(0.1,), (0.01, 0.1)])
def test_local_pipeline_writes_page_and_numbers(tmp_path, fractions):
    sources = write_sources(tmp_path, n_test=20, fractions=fractions)

    LocalDagRunner().run(_pipeline(tmp_path, sources))

    (page,) = tmp_path.glob("pipeline/Report/report/*/report.html")
    rows = json.loads(page.with_name("metrics.json").read_text())["rows"]
    assert len(rows) == 5 * len(fractions)
    assert page.with_name("model_card.md").read_text().startswith("# Model card")
    assert "<h1>Model card" in page.with_name("model_card.html").read_text()
    text = page.read_text()
    assert "Supervised-0.1" in text
    assert sources.probe_results in text


def test_kubeflow_pipeline_has_an_input_for_each_run(tmp_path):
    sources = write_sources(tmp_path, n_test=10)
    runner = KubeflowV2DagRunner(
        config=KubeflowV2DagRunnerConfig(default_image="image", use_pipeline_spec_2_1=True),
        output_dir=str(tmp_path),
        output_filename="pipeline.json",
    )

    runner.run(_pipeline(tmp_path, sources, with_pushed_model=False), write_out=True)

    compiled = json.loads((tmp_path / "pipeline.json").read_text())
    inputs = compiled["pipelineSpec"]["root"]["dag"]["tasks"]["Report"]["inputs"]["artifacts"]
    assert {f"run_{position}" for position in range(4)} <= set(inputs)
    assert "pushed_model" not in inputs
