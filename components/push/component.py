"""Push: the TFX shell."""

import dataclasses
import json

from tfx.components.util import model_utils
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, Model, ModelBlessing, PushedModel
from tfx.utils import path_utils

from components.push.comparison import Rule
from components.push.decision import push_model
from components.training.warm_start import kept_with_a_version

DECISION_FILE = "decision.json"


@component
def Push(  # noqa: N802 (TFX names the node after the function)
    model: InputArtifact[Model],
    blessing: InputArtifact[ModelBlessing],
    examples: InputArtifact[Examples],
    pushed_model: OutputArtifact[PushedModel],
    pretrained: InputArtifact[Model],
    destination: Parameter[str],
    max_regression: Parameter[float],
    judged_by: Parameter[str],
    confidence: Parameter[float],
    resamples: Parameter[int],
    seed: Parameter[int],
    code_version: Parameter[str] = "",
) -> None:
    """Puts a blessed model into a versioned directory, unless the champion there is better.

    Args:
      model: from the Trainer.
      blessing: from the Evaluator.
      examples: raw labelled examples with a test split, on which the model meets the champion.
      pretrained: from Pretrain; its encoder and head are kept with the version, for a later one to start from.
      pushed_model: gets decision.json (see `decision.Decision`) and the custom properties `pushed` (1 or 0),
        `pushed_version` and `pushed_destination` of the stock Pusher.
      destination: directory of the versions, local or remote.
      max_regression: in [0, 1], by how much the model's top-1 may be below the champion's; see `comparison.Rule`,
        also for the next four.
      judged_by: "interval" or "estimate".
      confidence: of the intervals.
      resamples: of the bootstrap.
      seed: of the bootstrap.
      code_version: part of the cache key, nothing else.
    """
    record, copies = kept_with_a_version(
        path_utils.serving_model_path(pretrained.uri, path_utils.is_old_model_artifact(pretrained))
    )
    decision = push_model(
        path_utils.serving_model_path(model.uri, path_utils.is_old_model_artifact(model)),
        blessed=model_utils.is_model_blessed(blessing),
        test_split_uri=artifact_utils.get_split_uri([examples], "test"),
        destination=destination,
        # Vertex AI hands whole numbers over as floats.
        rule=Rule(max_regression, judged_by, confidence, int(resamples), int(seed)),
        record=record,
        copies=copies,
    )
    fileio.makedirs(pushed_model.uri)
    with fileio.open(f"{pushed_model.uri}/{DECISION_FILE}", "w") as file:
        file.write(json.dumps(dataclasses.asdict(decision), indent=1))
    pushed_model.set_int_custom_property("pushed", int(decision.pushed is not None))
    if decision.pushed is not None:
        pushed_model.set_string_custom_property("pushed_version", decision.version)
        pushed_model.set_string_custom_property("pushed_destination", decision.pushed)
