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
        "retrain": ExecutionParameter(type=str),
        "config": ExecutionParameter(type=str),
        "seed": ExecutionParameter(type=int),
        "code_version": ExecutionParameter(type=str),
    }
    INPUTS: ClassVar[Mapping[str, ChannelParameter]] = {
        "unlabeled": ChannelParameter(type=standard_artifacts.Examples),
        "labeled": ChannelParameter(type=standard_artifacts.Examples),
    }
    OUTPUTS: ClassVar[Mapping[str, ChannelParameter]] = {"drift": ChannelParameter(type=DriftFindings)}


class Drift(base_component.BaseComponent):
    """Compares new images with those trained on before: champion's embeddings, image statistics, names of classes."""

    SPEC_CLASS = DriftSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        *,
        unlabeled: types.BaseChannel,
        labeled: types.BaseChannel,
        pushed: str,
        retrain: str,
        config: str,
        seed: int,
        code_version: str = "",
    ) -> None:
        """Wires the component.

        Args:
          unlabeled: of SpanIngest; its property `span` is the last that may be new. Images are read from the store.
          labeled: raw labelled Examples, whose labels the champion should know, with the test images.
          pushed: folder of the pushed versions, whose champion embeds; read when the node runs.
          retrain: JSON of a `RetrainConfig`, as SpanIngest has it: the store, and which spans make a window.
          config: JSON of a `settings.DriftConfig`.
          seed: of SpanIngest's shares, the samples and the permutations.
          code_version: part of the cache key, nothing else.
        """
        super().__init__(
            DriftSpec(
                unlabeled=unlabeled,
                labeled=labeled,
                pushed=pushed,
                retrain=retrain,
                config=config,
                seed=seed,
                code_version=code_version,
                drift=types.Channel(type=DriftFindings),
            )
        )
