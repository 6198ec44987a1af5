"""The TFX shell of LinearEval."""

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from components.artifacts import ProbeResults
from components.linear_eval import executor


class LinearEvalSpec(ComponentSpec):
    """Inputs, outputs and parameters of LinearEval."""

    PARAMETERS = {
        "config": ExecutionParameter(type=str),
        "fractions": ExecutionParameter(type=str),
        "seed": ExecutionParameter(type=int),
        "code_version": ExecutionParameter(type=str),
    }
    INPUTS = {
        "model": ChannelParameter(type=standard_artifacts.Model),
        "transform_graph": ChannelParameter(type=standard_artifacts.TransformGraph),
        "examples": ChannelParameter(type=standard_artifacts.Examples),
    }
    OUTPUTS = {"probe_results": ChannelParameter(type=ProbeResults)}


class LinearEval(base_component.BaseComponent):
    """Logistic regression and kNN on the frozen h, for each label fraction, and the same on a random encoder."""

    SPEC_CLASS = LinearEvalSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        *,
        model: types.BaseChannel,
        transform_graph: types.BaseChannel,
        examples: types.BaseChannel,
        config: str,
        fractions: str,
        seed: int,
        code_version: str = "",
    ) -> None:
        """
        Args:
            model: what Pretrain made.
            transform_graph: of the labelled examples; it names the classes.
            examples: of LabelFractionSplit: a split for each fraction, and `test`.
            config: JSON of ProbeConfig.
            fractions: JSON list of numbers in (0, 1].
            seed: of the folds and of the random encoder.
            code_version: part of the cache key.
        """
        super().__init__(
            LinearEvalSpec(
                model=model,
                transform_graph=transform_graph,
                examples=examples,
                config=config,
                fractions=fractions,
                seed=seed,
                code_version=code_version,
                probe_results=types.Channel(type=ProbeResults),
            )
        )
