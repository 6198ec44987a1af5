"""Artifact types that TFX has no standard type for.

Vertex finds a type by importing the part of TYPE_NAME before the dot and asking it for the rest; hence
`components.<Class>`. It refuses declared properties, so none has any: details are files or custom properties.
"""

from tfx.types import artifact


class DriftFindings(artifact.Artifact):
    """`drift.json`: how new images differ from the window's; `unusual-*.png`: those least like any of them."""

    TYPE_NAME = "components.DriftFindings"


class IngestSummary(artifact.Artifact):
    """`summary.json`: read, kept, duplicate, rejected of each source; `rejects.jsonl`: what, and why."""

    TYPE_NAME = "components.IngestSummary"


class Leakage(artifact.Artifact):
    """`leakage.json`: how many test and training images were compared by content, and those that are both."""

    TYPE_NAME = "components.Leakage"


class LabelFractions(artifact.Artifact):
    """`manifest.json`: the keys chosen for each fraction, with the counts of each class."""

    TYPE_NAME = "components.LabelFractions"


class ProbeResults(artifact.Artifact):
    """`rows.json`, `classes.json` and `embeddings.npz` of the frozen encoder's probes."""

    TYPE_NAME = "components.ProbeResults"


class PipelineReport(artifact.Artifact):
    """`report.html`, whole in one file, `metrics.json` for programs, `model_card.md` and `model_card.html`."""

    TYPE_NAME = "components.PipelineReport"


class RegisteredModel(artifact.Artifact):
    """`registration.json`: the version in Vertex AI's Model Registry that a pushed model became, or why none."""

    TYPE_NAME = "components.RegisteredModel"
