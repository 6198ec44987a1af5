"""TFX shells over `trainer`: each component is wiring, checks and files; the method is in `trainer`."""

from typing import Any

_ARTIFACT_TYPES = (
    "DriftFindings",
    "IngestSummary",
    "LabelFractions",
    "Leakage",
    "PipelineReport",
    "ProbeResults",
    "RegisteredModel",
)


def __getattr__(name: str) -> Any:
    """Hands out an artifact type on first use, so that a Beam worker need not import TFX to decode images."""
    if name in _ARTIFACT_TYPES:
        from components import artifacts

        return getattr(artifacts, name)
    raise AttributeError(f"module 'components' has no attribute {name!r}")
