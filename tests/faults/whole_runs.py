"""The command line in a process that has imported all of it already, on the whole graph or on a small one."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import span_graph
from tfx.orchestration.pipeline import Pipeline

import pipeline.cli
import pipeline.outlook
import pipeline.preflight
from pipeline import ingestion
from pipeline.config import PipelineConfig
from pipeline.pipeline import Locations
from pipeline.runners import console, local, results

TINY = Path(__file__).resolve().parents[1] / "tiny.yaml"
__all__ = ["TINY", "console", "results", "run", "run_into_a_full_disk", "run_small"]


def run(arguments: list[str]) -> None:
    """`python -m pipeline ...`; raises SystemExit."""
    pipeline.cli.main(arguments)


def run_small(arguments: list[str]) -> None:
    """The same on four nodes: labelled images, SpanIngest, a count in place of the training, its end."""
    local.create_pipeline = _small
    pipeline.cli.main(arguments)


def run_into_a_full_disk(arguments: list[str], node: str, ballast: Path, free_bytes: int) -> None:
    """The same, on whose disk a file leaves so many bytes free when a node begins."""
    launch = local.AnnouncingRunner._launch

    def launched(self: Any, pipeline: Pipeline, begun: Any, *rest: Any) -> Any:
        if begun.node_info.id == node:
            ballast.write_bytes(bytes(shutil.disk_usage(ballast.parent).free - free_bytes))
        return launch(self, pipeline, begun, *rest)

    local.AnnouncingRunner._launch = launched
    pipeline.cli.main(arguments)


def _small(
    config: PipelineConfig, locations: Locations, *, fingerprints: Mapping[str, str], all_wait: bool, **settings: Any
) -> Pipeline:
    images = ingestion.labeled_images(config, fingerprints["labeled"])
    return Pipeline(
        pipeline_name="small",
        pipeline_root=locations.artifacts,
        components=span_graph.nodes(config, images, fingerprints=dict(fingerprints)),
        enable_cache=True,
        # With any, TFX packs itself up for workers that are not here, which takes longer than all else.
        **{**settings, "beam_pipeline_args": []},
    )
