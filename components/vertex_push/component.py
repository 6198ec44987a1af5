"""VertexPusher: the TFX shell."""

import json

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types.standard_artifacts import PushedModel

from components.artifacts import PipelineReport, RegisteredModel
from components.vertex_push.pusher import register
from components.vertex_push.settings import Target

REGISTRATION_FILE = "registration.json"


@component
def VertexPusher(  # noqa: N802 (TFX names the node after the function)
    pushed_model: InputArtifact[PushedModel],
    report: InputArtifact[PipelineReport],
    registered_model: OutputArtifact[RegisteredModel],
    target: Parameter[str],
    run: Parameter[str],
    commit: Parameter[str],
    code_version: Parameter[str] = "",
) -> None:
    """Registers a pushed model with Vertex AI, once, as the candidate.

    Args:
      pushed_model: from Push.
      report: with metrics.json and the model card.
      registered_model: gets registration.json, see `pusher.Registration`, and the custom properties `registered` (1
        or 0) and `model_version`.
      target: JSON of a `settings.Target`.
      run: name of the pipeline's job, which the runner fills in.
      commit: of the code.
      code_version: part of the cache key, nothing else.
    """
    registration = register(
        Target.model_validate_json(target), pushed_model=pushed_model.uri, report=report.uri, run=run, commit=commit
    )
    fileio.makedirs(registered_model.uri)
    with fileio.open(f"{registered_model.uri}/{REGISTRATION_FILE}", "w") as file:
        file.write(json.dumps(registration.as_json(), indent=1))
    registered_model.set_int_custom_property("registered", int(registration.version is not None))
    if registration.version is not None:
        registered_model.set_string_custom_property("model_version", registration.version)
