"""Small pipelines, compiled as TFX does."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tfx.dsl.components.base.base_node import BaseNode
from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import KubeflowV2DagRunner, KubeflowV2DagRunnerConfig
from tfx.orchestration.pipeline import Pipeline

from pipeline.runners import kubeflow
from pipeline.runners.rehearsal.images import Image, Images

_HERE = Path(__file__).resolve().parent


def compiled(
    folder: Path,
    nodes: Sequence[BaseNode],
    *,
    exit_handler: BaseNode | None = None,
    change: Callable[[dict[str, Any]], None] = lambda tasks: None,
) -> Path:
    """Compiles nodes to `job.json` in a folder, with artifacts below gs://bucket/root.

    Args:
        folder: of the file.
        nodes: of the pipeline.
        exit_handler: that runs after them.
        change: told of the tasks by name, puts in what TFX leaves out.
    """
    config = KubeflowV2DagRunnerConfig(default_image="image", use_pipeline_spec_2_1=True)
    runner = KubeflowV2DagRunner(config)
    if exit_handler is not None:
        runner.set_exit_handler(exit_handler)
    pipeline = Pipeline(pipeline_name="small", pipeline_root="gs://bucket/root", components=list(nodes))
    job = runner.run(pipeline, write_out=False)
    change(dict(kubeflow.tasks(job["pipelineSpec"])))
    file = folder / "job.json"
    file.write_text(json.dumps(job))
    return file


def images(**environment: str) -> Images:
    """One image, which has this repository and the tests' components; its variables besides its own."""
    own = Image().environment | {"PYTHONPATH": str(_HERE.parents[2])}
    return Images(Image(workdir=_HERE, environment={**own, **environment}))
