"""The Report component: a page about a run, made from its artifacts."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from components.artifacts import DriftFindings, IngestSummary, LabelFractions, Leakage, PipelineReport, ProbeResults
from components.report.executor import RUN_PREFIX, Executor


class ReportSpec(ComponentSpec):
    """Inputs and outputs of the report, but for the runs, whose number the configuration decides."""

    PARAMETERS: ClassVar[Mapping[str, ExecutionParameter]] = {
        "configuration": ExecutionParameter(type=str),
        "run_record": ExecutionParameter(type=str),
        "code_version": ExecutionParameter(type=str),
    }
    INPUTS: ClassVar[Mapping[str, ChannelParameter]] = {
        "unlabeled_summary": ChannelParameter(type=IngestSummary),
        "labeled_summary": ChannelParameter(type=IngestSummary),
        "pretrain_run": ChannelParameter(type=standard_artifacts.ModelRun),
        "label_fractions": ChannelParameter(type=LabelFractions),
        "probe_results": ChannelParameter(type=ProbeResults),
        "evaluation": ChannelParameter(type=standard_artifacts.ModelEvaluation, optional=True),
        "blessing": ChannelParameter(type=standard_artifacts.ModelBlessing, optional=True),
        "pushed_model": ChannelParameter(type=standard_artifacts.PushedModel, optional=True),
        "leakage": ChannelParameter(type=Leakage, optional=True),
        "drift": ChannelParameter(type=DriftFindings, optional=True),
    }
    OUTPUTS: ClassVar[Mapping[str, ChannelParameter]] = {"report": ChannelParameter(type=PipelineReport)}


class Report(base_component.BaseComponent):
    """Writes `report.html`, whole in one file, `metrics.json`, and the model card as Markdown and HTML."""

    SPEC_CLASS = ReportSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        *,
        unlabeled_summary: types.BaseChannel,
        labeled_summary: types.BaseChannel,
        pretrain_run: types.BaseChannel,
        label_fractions: types.BaseChannel,
        probe_results: types.BaseChannel,
        runs: Sequence[types.BaseChannel] = (),
        evaluation: types.BaseChannel | None = None,
        blessing: types.BaseChannel | None = None,
        pushed_model: types.BaseChannel | None = None,
        leakage: types.BaseChannel | None = None,
        drift: types.BaseChannel | None = None,
        configuration: str = "",
        run_record: str = "",
        code_version: str = "",
    ) -> None:
        """Wires the report to what it tells about.

        Args:
          unlabeled_summary: IngestSummary of the images without labels.
          labeled_summary: IngestSummary of the labelled and the test images.
          pretrain_run: ModelRun of the pretraining, with history.csv, views.npz and channels.json.
          label_fractions: LabelFractions, the labels drawn.
          probe_results: ProbeResults, with rows.json, classes.json and embeddings.npz.
          runs: ModelRun of each trained classifier, in any order: their rows say which arm and fraction.
          evaluation: ModelEvaluation of the candidate; without it, accuracies by class are computed.
          blessing: ModelBlessing of the candidate.
          pushed_model: PushedModel with decision.json.
          leakage: Leakage, the comparison of training with test images.
          drift: DriftFindings, the comparison of new images with the window's; without it the page has no such part.
          configuration: the resolved configuration, YAML.
          run_record: path of the runner's JSON record of its nodes; empty where the runner keeps none.
          code_version: part of the cache key, and shown.
        """
        numbered = {f"{RUN_PREFIX}{position}": channel for position, channel in enumerate(runs)}
        spec_class = _spec_class(tuple(numbered))
        super().__init__(
            spec=spec_class(
                unlabeled_summary=unlabeled_summary,
                labeled_summary=labeled_summary,
                pretrain_run=pretrain_run,
                label_fractions=label_fractions,
                probe_results=probe_results,
                evaluation=evaluation,
                blessing=blessing,
                pushed_model=pushed_model,
                leakage=leakage,
                drift=drift,
                configuration=configuration,
                run_record=run_record,
                code_version=code_version,
                report=types.Channel(type=PipelineReport),
                **numbered,
            )
        )


def _spec_class(run_names: Sequence[str]) -> type[ReportSpec]:
    """A spec with an input for each run: Kubeflow takes one channel an input, so they cannot share one."""
    run_inputs = {name: ChannelParameter(type=standard_artifacts.ModelRun) for name in run_names}
    return type("ReportSpec", (ReportSpec,), {"INPUTS": ReportSpec.INPUTS | run_inputs})
