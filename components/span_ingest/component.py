"""SpanIngest's specification."""

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ExecutionParameter

from components.artifacts import IngestSummary
from components.span_ingest import executor


class SpanIngestSpec(types.ComponentSpec):
    """Inputs, outputs and parameters, all of which KubeflowV2DagRunner can pass."""

    PARAMETERS = {
        "source": ExecutionParameter(type=str),
        "settings": ExecutionParameter(type=str),
        "max_pixels": ExecutionParameter(type=int),
        "max_rejected_share": ExecutionParameter(type=float),
        "num_shards": ExecutionParameter(type=int),
        "min_window_images": ExecutionParameter(type=int),
        "seed": ExecutionParameter(type=int),
        "fingerprint": ExecutionParameter(type=str),
        "code_version": ExecutionParameter(type=str),
    }
    INPUTS = {
        "exclude": ChannelParameter(type=standard_artifacts.Examples),
    }
    OUTPUTS = {
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "summary": ChannelParameter(type=IngestSummary),
    }


class SpanIngest(base_beam_component.BaseBeamComponent):
    """Ingests of a source that grows only what is new, and lays out the window of spans that is pretrained on.

    Outputs `examples`, the window: of the split `train`, raw Examples as ImageExampleGen's, with the custom
    properties `span`, the last span there is, and `images`, how many they hold; and `summary`, which also has
    spans.json. The summary's custom property `proceed` is 1 if there is enough to train on; at 0 the examples are
    empty, and nothing that needs them must run.
    """

    SPEC_CLASS = SpanIngestSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(
        self,
        *,
        source: str,
        settings: str,
        exclude: types.BaseChannel,
        max_pixels: int,
        max_rejected_share: float,
        min_window_images: int,
        seed: int,
        num_shards: int = 8,
        fingerprint: str = "",
        code_version: str = "",
    ):
        """Wires the component.

        Args:
          source: path of what grows, see `listing.look`.
          settings: JSON of `RetrainConfig`, with a store.
          exclude: Examples whose test images must not be in the window.
          max_pixels: images over this are rejected before their pixels are decoded.
          max_rejected_share: share, 0 to 1, of a delivery's images; more rejects than this fail the run, unless they
            are very few.
          min_window_images: a window of fewer waits for more.
          seed: of the shares of older spans.
          num_shards: least files a span. A writer holds one in memory, so of large sources there are more.
          fingerprint: of the source and of what was trained on, for the cache key only.
          code_version: of this code, for the cache key only.
        """
        super().__init__(
            SpanIngestSpec(
                source=source,
                settings=settings,
                exclude=exclude,
                max_pixels=max_pixels,
                max_rejected_share=max_rejected_share,
                num_shards=num_shards,
                min_window_images=min_window_images,
                seed=seed,
                fingerprint=fingerprint,
                code_version=code_version,
                examples=types.Channel(type=standard_artifacts.Examples),
                summary=types.Channel(type=IngestSummary),
            )
        )
