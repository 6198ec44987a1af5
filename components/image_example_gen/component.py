"""ImageExampleGen's specification."""

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ExecutionParameter

from components.artifacts import IngestSummary
from components.image_example_gen import executor

# A photograph of 64 megapixels; 192 MB decoded.
DEFAULT_MAX_PIXELS = 64_000_000


class ImageExampleGenSpec(types.ComponentSpec):
    """Inputs, outputs and parameters, all of which KubeflowV2DagRunner can pass."""

    PARAMETERS = {
        "sources": ExecutionParameter(type=str),
        "holdout_fraction": ExecutionParameter(type=float),
        "max_pixels": ExecutionParameter(type=int),
        "max_rejected_share": ExecutionParameter(type=float),
        "num_shards": ExecutionParameter(type=int),
        "store": ExecutionParameter(type=str, optional=True),
        "fingerprint": ExecutionParameter(type=str),
        "code_version": ExecutionParameter(type=str),
    }
    INPUTS = {
        "exclude": ChannelParameter(type=standard_artifacts.Examples, optional=True),
    }
    OUTPUTS = {
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "summary": ChannelParameter(type=IngestSummary),
    }


class ImageExampleGen(base_beam_component.BaseBeamComponent):
    """Ingests images from folders, archives and TFRecords into raw Examples of encoded bytes.

    Outputs `examples` (splits `train`, `test` or both) and `summary`. Equal contents are kept once, a copy in
    the test split before one in the train split; every file read is kept, a duplicate, or a reject.
    """

    SPEC_CLASS = ImageExampleGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(
        self,
        sources: str,
        *,
        exclude: types.BaseChannel | None = None,
        holdout_fraction: float = 0.0,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        max_rejected_share: float = 0.05,
        num_shards: int = 8,
        store: str | None = None,
        fingerprint: str = "",
        code_version: str = "",
    ):
        """Wires the component.

        Args:
          sources: JSON list of objects with name, path (file, folder or glob, local or gs://), split (train or
            test), labeled (bool) and optionally manifest (path).
          exclude: Examples whose test images must not be kept.
          holdout_fraction: share, 0 to 1, of each labelled train source that becomes test, chosen by the hash
            of the key; a manifest's split column outranks it, and one image of each class is left to train.
          max_pixels: images over this are rejected before their pixels are decoded.
          max_rejected_share: share, 0 to 1, of a source's images; more rejects than this fail the run.
          num_shards: least files a split. A writer holds one in memory, so of large sources there are more.
          store: folder that keeps in which split each labelled image is, see `splits`, and whose runs all give it the
            same key; None: nothing is kept.
          fingerprint: of the files at the sources, for the cache key only.
          code_version: of this code, for the cache key only.
        """
        super().__init__(
            ImageExampleGenSpec(
                sources=sources,
                exclude=exclude,
                holdout_fraction=holdout_fraction,
                max_pixels=max_pixels,
                max_rejected_share=max_rejected_share,
                num_shards=num_shards,
                store=store,
                fingerprint=fingerprint,
                code_version=code_version,
                examples=types.Channel(type=standard_artifacts.Examples),
                summary=types.Channel(type=IngestSummary),
            )
        )
