"""LeakageGate: the TFX shell."""

from typing import ClassVar

from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import channel, component_spec, standard_artifacts

from components.artifacts import Leakage
from components.leakage_gate import executor


class LeakageGateSpec(component_spec.ComponentSpec):
    """Interface of LeakageGate."""

    PARAMETERS: ClassVar = {
        "store": component_spec.ExecutionParameter(type=str, optional=True),
        "code_version": component_spec.ExecutionParameter(type=str),
    }
    INPUTS: ClassVar = {
        "labeled": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "unlabeled": component_spec.ChannelParameter(type=standard_artifacts.Examples),
    }
    OUTPUTS: ClassVar = {"leakage": component_spec.ChannelParameter(type=Leakage)}


class LeakageGate(base_beam_component.BaseBeamComponent):
    """Compares the content of every training image with the test images, and stops the run at the first in common.

    Ingestion drops such images already. This node believes neither it nor what an earlier run has left: it reads the
    examples that are trained on. Where a store keeps what earlier runs have trained and tested on, no labelled image
    may have changed sides since. Nodes that train come after it by `add_upstream_node`.
    """

    SPEC_CLASS = LeakageGateSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(
        self,
        *,
        labeled: channel.BaseChannel,
        unlabeled: channel.BaseChannel,
        store: str | None = None,
        code_version: str = "",
    ):
        """Wires the component.

        Args:
          labeled: raw labelled Examples with the splits train and test.
          unlabeled: raw Examples to pretrain on, all splits of which count.
          store: folder that keeps in which split each labelled image has been, see `image_example_gen.splits`; None:
            only this run is looked at.
          code_version: part of the cache key, nothing else.
        """
        super().__init__(
            LeakageGateSpec(
                labeled=labeled,
                unlabeled=unlabeled,
                store=store,
                code_version=code_version,
                leakage=channel.Channel(type=Leakage),
            )
        )
