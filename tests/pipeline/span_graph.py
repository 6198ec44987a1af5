"""The part of the graph that decides whether to go on, with one node in the place of all that it decides about."""

import os
from pathlib import Path

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.components.base.base_node import BaseNode
from tfx.types.standard_artifacts import Examples

from components.artifacts import PipelineReport
from components.image_example_gen.examples import read_records
from pipeline import ingestion
from pipeline.config import PipelineConfig
from trainer.loop import PreemptedError

COUNTED = "counted.txt"


@component
def Count(
    examples: InputArtifact[Examples],
    report: OutputArtifact[PipelineReport],
    broken_by: Parameter[str] = "",
) -> None:
    """Counts the window's images, as training would see them; fails while a file is there.

    As the first node under the condition it may not read what that looks at, see `ingestion.there_is_enough`.
    """
    if os.path.exists(broken_by):
        if "SIGTERM" in Path(broken_by).read_text():
            raise PreemptedError(3, total_steps=10, directory="checkpoints")
        raise RuntimeError("the training died")
    Path(report.uri).mkdir(parents=True, exist_ok=True)
    Path(report.uri, COUNTED).write_text(str(_count(examples)))


def _count(examples: Examples) -> int:
    count = 0
    for path in Path(examples.uri, "Split-train").iterdir():
        with path.open("rb") as file:
            count += sum(1 for _ in read_records(file, max_record_bytes=2**30))
    return count


def nodes(
    config: PipelineConfig, images: BaseNode, *, fingerprints: dict[str, str] | None = None, broken_by: str = ""
) -> list[BaseNode]:
    """Source and test images → SpanIngest → (under its condition) Count → SpanTrained."""
    fingerprint = (fingerprints or {}).get("spans", "")
    spans = ingestion.new_images(config, fingerprint, images)
    with ingestion.there_is_enough(spans):
        count = Count(examples=spans.outputs["examples"], broken_by=broken_by)
        trained = ingestion.span_trained(config, fingerprint, spans, count, [])
    return [images, spans, count, trained]
