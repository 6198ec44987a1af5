"""LabelFractionSplit: the TFX shell."""

from typing import ClassVar

from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import channel, component_spec, standard_artifacts

from components.artifacts import LabelFractions
from components.label_fraction_split import executor


class LabelFractionSplitSpec(component_spec.ComponentSpec):
    """Interface of LabelFractionSplit. TFX wants different names for inputs and outputs."""

    PARAMETERS: ClassVar = {
        "fractions": component_spec.ExecutionParameter(type=str),
        "seed": component_spec.ExecutionParameter(type=int),
        "store": component_spec.ExecutionParameter(type=str, optional=True),
        "code_version": component_spec.ExecutionParameter(type=str),
    }
    INPUTS: ClassVar = {"examples": component_spec.ChannelParameter(type=standard_artifacts.Examples)}
    OUTPUTS: ClassVar = {
        "manifest": component_spec.ChannelParameter(type=LabelFractions),
        "fraction_examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
    }


class LabelFractionSplit(base_beam_component.BaseBeamComponent):
    """Splits off class-balanced, nested fractions of the training labels.

    `outputs["manifest"]` names the chosen keys; `outputs["fraction_examples"]` holds a split for each fraction (see
    `selection.fraction_split_name`) and the test split.
    """

    SPEC_CLASS = LabelFractionSplitSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(
        self,
        examples: channel.BaseChannel,
        *,
        fractions: str,
        seed: int,
        store: str | None = None,
        code_version: str = "",
    ):
        """Wires the component.

        Args:
          examples: transformed labelled Examples with the splits train and test.
          fractions: JSON list of numbers in (0, 1], such as "[0.01, 0.1]".
          seed: of the hash that orders the keys.
          store: folder that keeps what was chosen, see `choices.settle`; None: nothing is kept, and where images are
            added a fraction's boundary moves.
          code_version: part of the cache key, nothing else.
        """
        super().__init__(
            LabelFractionSplitSpec(
                examples=examples,
                fractions=fractions,
                seed=seed,
                store=store,
                code_version=code_version,
                manifest=channel.Channel(type=LabelFractions),
                fraction_examples=channel.Channel(type=standard_artifacts.Examples),
            )
        )
