"""SpanTrained: the TFX shell."""

from tfx.dsl.component.experimental.annotations import InputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples

from components.artifacts import PipelineReport
from components.span_ingest.store import SpanStore


@component
def SpanTrained(  # noqa: N802 (TFX names the node after the function)
    examples: InputArtifact[Examples],
    report: InputArtifact[PipelineReport],
    store: Parameter[str],
    fingerprint: Parameter[str] = "",
    code_version: Parameter[str] = "",
) -> None:
    """Says in the store that a run was completed on a window: what is in it is new no longer.

    Args:
      examples: of SpanIngest, whose property `span` is the window's last span.
      report: of the run, so that everything was done when this is.
      store: of the spans.
      fingerprint: as SpanIngest's, for the cache key only.
      code_version: part of the cache key, nothing else.
    """
    SpanStore(store).mark_trained(examples.get_int_custom_property("span"))
