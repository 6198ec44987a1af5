"""Drift: the TFX shell."""

from collections.abc import Mapping
from typing import ClassVar

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from components.artifacts import DriftFindings
from components.drift.executor import Executor


class DriftSpec(ComponentSpec):
    """Interface of Drift."""

    PARAMETERS: ClassVar[Mapping[str, ExecutionParameter]] = {
        "pushed": ExecutionParameter(type=str),
        "config": ExecutionParameter(type=str),
        "seed": ExecutionParameter(type=int),
        "code_version": ExecutionParameter(type=str),
    }
    INPUTS: ClassVar[Mapping[str, ChannelParameter]] = {
        "new": ChannelParameter(type=standard_artifacts.Examples),
        "window": ChannelParameter(type=standard_artifacts.Examples),
        "labeled": ChannelParameter(type=standard_artifacts.Examples, optional=True),
    }
    OUTPUTS: ClassVar[Mapping[str, ChannelParameter]] = {"drift": ChannelParameter(type=DriftFindings)}


class Drift(base_component.BaseComponent):
    """Compares new images with the window's: the champion's embeddings, image statistics, names of classes."""

    SPEC_CLASS = DriftSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        *,
        new: types.BaseChannel,
        window: types.BaseChannel,
        pushed: str,
        config: str,
        seed: int,
        labeled: types.BaseChannel | None = None,
        code_version: str = "",
    ) -> None:
        """Wires the component.

        Args:
          new: raw Examples that have come since the last run.
          window: raw Examples that they are compared with; images of `new` in it do not count.
          pushed: folder of the pushed versions, whose champion embeds; read when the node runs.
          config: JSON of a `settings.DriftConfig`.
          seed: of the samples and the permutations.
          labeled: raw labelled Examples, whose labels the champion should know.
          code_version: part of the cache key, nothing else.
        """
        super().__init__(
            DriftSpec(
                new=new,
                window=window,
                labeled=labeled,
                pushed=pushed,
                config=config,
                seed=seed,
                code_version=code_version,
                drift=types.Channel(type=DriftFindings),
            )
        )
