"""The component Distill: the stock Trainer has one input of examples, and distillation needs two."""

from collections.abc import Mapping
from typing import Any, ClassVar

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.proto import trainer_pb2
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.types.standard_component_specs import TrainerSpec
from tfx.utils import json_utils

from components.distill.executor import UNLABELED, Executor


class DistillSpec(ComponentSpec):
    """The Trainer's, with images that need no labels beside those that have some."""

    PARAMETERS: ClassVar[Mapping[str, ExecutionParameter]] = TrainerSpec.PARAMETERS
    INPUTS: ClassVar[Mapping[str, ChannelParameter]] = {
        **TrainerSpec.INPUTS,
        UNLABELED: ChannelParameter(type=standard_artifacts.Examples),
    }
    OUTPUTS: ClassVar[Mapping[str, ChannelParameter]] = TrainerSpec.OUTPUTS


class Distill(base_component.BaseComponent):
    """Trains a student on what a teacher says of images without labels."""

    SPEC_CLASS = DistillSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        *,
        run_fn: str,
        examples: types.BaseChannel,
        unlabeled: types.BaseChannel,
        transform_graph: types.BaseChannel,
        base_model: types.BaseChannel,
        train_args: trainer_pb2.TrainArgs,
        eval_args: trainer_pb2.EvalArgs,
        custom_config: Mapping[str, Any],
    ) -> None:
        """Wires the student to its teacher and to both sets of images.

        Args:
          run_fn: dotted name of the function that trains.
          examples: Examples with labels, transformed: those of `train_args` and, to score by, of `eval_args`.
          unlabeled: Examples without labels, transformed; of these the split `train`.
          transform_graph: TransformGraph of the labelled images.
          base_model: Model of the teacher, with its weights beside it.
          train_args: splits of the labelled images.
          eval_args: splits of the test images.
          custom_config: JSON values for the run_fn.
        """
        spec = DistillSpec(
            run_fn=run_fn,
            examples=examples,
            unlabeled=unlabeled,
            transform_graph=transform_graph,
            base_model=base_model,
            train_args=train_args,
            eval_args=eval_args,
            custom_config=json_utils.dumps(dict(custom_config)),
            model=types.Channel(type=standard_artifacts.Model),
            model_run=types.Channel(type=standard_artifacts.ModelRun),
        )
        super().__init__(spec=spec)
