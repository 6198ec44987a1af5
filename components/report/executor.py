"""Runs the report: artifacts in, report.html, metrics.json and the model card out."""

from typing import Any

from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils

from components.report.content import ArtifactReference
from components.report.loading import Sources, load_content
from components.report.metrics import metrics_json

REPORT_FILE = "report.html"
METRICS_FILE = "metrics.json"
CARD_FILES = ("model_card.md", "model_card.html")
RUN_PREFIX = "run_"


class Executor(base_executor.BaseExecutor):
    """Executor of the Report component."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes page, numbers and model card into the output artifact. See the component for the inputs."""
        # Plotly and scikit-learn take seconds to import, which a pipeline that is only being wired need not pay.
        from components.report import card
        from components.report.render import render

        content = load_content(_sources(input_dict, exec_properties))
        directory = artifact_utils.get_single_uri(output_dict["report"])
        fileio.makedirs(directory)
        model_card = card.markdown_card(content)
        files = {
            REPORT_FILE: render(content),
            METRICS_FILE: metrics_json(content),
            CARD_FILES[0]: model_card,
            CARD_FILES[1]: card.html_card(model_card),
        }
        for name, text in files.items():
            with fileio.open(f"{directory}/{name}", "wb") as file:
                file.write(text.encode())


def _sources(input_dict: dict[str, list[types.Artifact]], exec_properties: dict[str, Any]) -> Sources:
    def optional(name: str) -> str | None:
        return artifact_utils.get_single_uri(input_dict[name]) if input_dict.get(name) else None

    runs = sorted(
        (name for name in input_dict if name.startswith(RUN_PREFIX)),
        key=lambda name: int(name.removeprefix(RUN_PREFIX)),
    )
    return Sources(
        ingest_summaries=tuple(
            artifact_utils.get_single_uri(input_dict[name]) for name in ("unlabeled_summary", "labeled_summary")
        ),
        pretrain_run=artifact_utils.get_single_uri(input_dict["pretrain_run"]),
        label_fractions=artifact_utils.get_single_uri(input_dict["label_fractions"]),
        probe_results=artifact_utils.get_single_uri(input_dict["probe_results"]),
        runs=tuple(artifact_utils.get_single_uri(input_dict[name]) for name in runs),
        evaluation=optional("evaluation"),
        blessing=optional("blessing"),
        pushed_model=optional("pushed_model"),
        leakage=optional("leakage"),
        drift=optional("drift"),
        artifacts=tuple(
            ArtifactReference(name=name, type_name=artifact.type_name, uri=artifact.uri)
            for name, artifacts in sorted(input_dict.items())
            for artifact in artifacts
        ),
        configuration=exec_properties.get("configuration") or "",
        run_record=exec_properties.get("run_record") or "",
        code_version=exec_properties.get("code_version") or "",
    )
