"""The command line in a process that has imported all of it already, on the whole graph or on a small one."""

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
__all__ = ["TINY", "console", "results", "run", "run_small"]


def run(arguments: list[str]) -> None:
    """`python -m pipeline ...`; raises SystemExit."""
    pipeline.cli.main(arguments)


def run_small(arguments: list[str]) -> None:
    """The same on four nodes: labelled images, SpanIngest, a count in place of the training, its end."""
    local.create_pipeline = _small
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
