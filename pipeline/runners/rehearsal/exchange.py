"""What a container is told and what it answers: ExecutorInput and ExecutorOutput as JSON."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from pipeline.runners.rehearsal.specification import Task, constant_value

# As Vertex AI names them; TFX makes a number of it where it wants one.
_ARTIFACT_NAME = "projects/0/locations/rehearsal/metadataStores/default/artifacts/{}"


@dataclass(frozen=True)
class Made:
    """Outputs of a task: RuntimeArtifacts, as JSON objects, and values, by name."""

    artifacts: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)


def runtime_artifact(uri: str, artifact_type: Any, metadata: Any, *, name: str = "") -> dict[str, Any]:
    """A RuntimeArtifact as JSON; `name` tells it from all others, and is made up if empty."""
    return {
        "name": _ARTIFACT_NAME.format(name or uuid.uuid4().hex),
        "uri": uri,
        "type": json_format.MessageToDict(artifact_type),
        "metadata": json_format.MessageToDict(metadata),
    }


def executor_input(
    task: Task, parameters: Mapping[str, Any], artifacts: Mapping[str, dict[str, Any]], directory: Path
) -> dict[str, Any]:
    """The ExecutorInput of one execution, whose outputs go into a directory of its own.

    Args:
        task: that is executed.
        parameters: its values by name.
        artifacts: its input artifacts by name.
        directory: of the execution; made, and in it what Vertex AI makes: the parents of all outputs.
    """
    directory.mkdir(parents=True)
    declared = task.interface.input_definitions.parameters
    defaults = {
        name: constant_value(definition.default_value)
        for name, definition in declared.items()
        if definition.HasField("default_value")
    }
    outputs = task.interface.output_definitions
    return {
        "inputs": {"parameterValues": defaults | dict(parameters), "artifacts": _lists(artifacts)},
        "outputs": {
            "artifacts": _lists(
                {
                    name: runtime_artifact(str(directory / name), output.artifact_type, output.metadata)
                    for name, output in sorted(outputs.artifacts.items())
                }
            ),
            "parameters": {
                name: {"outputFile": str(directory / f"{name}.parameter")} for name in sorted(outputs.parameters)
            },
            "outputFile": str(directory / "executor_output.json"),
        },
    }


def with_answer(told: Mapping[str, Any]) -> dict[str, Any]:
    """An ExecutorInput with what a driver has answered to it in its place."""
    answer = _answer(told)
    inputs, outputs = told["inputs"], told["outputs"]
    return {
        "inputs": {**inputs, "parameterValues": {**inputs["parameterValues"], **answer.get("parameterValues", {})}},
        "outputs": {**outputs, "artifacts": _lists(_merged(outputs["artifacts"], answer))},
    }


def read_made(told: Mapping[str, Any]) -> Made:
    """What a container has made, by its ExecutorOutput and the files of its parameters.

    Raises:
        ValueError: it names outputs that it doesn't have, or leaves a parameter out.
    """
    outputs, answer = told["outputs"], _answer(told)
    parameters = dict(answer.get("parameterValues", {}))
    for name, place in outputs["parameters"].items():
        if Path(place["outputFile"]).exists():
            parameters[name] = _value(Path(place["outputFile"]).read_text(encoding="utf-8"))
    for name in sorted(set(outputs["parameters"]) - set(parameters)):
        raise ValueError(f"the output parameter {name!r} was not written")
    made = {name: parameters[name] for name in outputs["parameters"]}
    return Made(_merged(outputs["artifacts"], answer), made)


def _answer(told: Mapping[str, Any]) -> dict[str, Any]:
    file = Path(told["outputs"]["outputFile"])
    if not file.exists():
        return {}
    try:
        answer = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"the ExecutorOutput {file} is not JSON: {error}") from error
    unknown = set(answer.get("artifacts", {})) - set(told["outputs"]["artifacts"])
    if unknown:
        raise ValueError(f"the ExecutorOutput {file} names outputs that were not asked for: {sorted(unknown)}")
    return answer


def _merged(artifacts: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    merged = {}
    for name, value in artifacts.items():
        [asked] = value["artifacts"]
        [told] = answer.get("artifacts", {}).get(name, {}).get("artifacts") or [{}]
        merged[name] = {
            **asked,
            "uri": told.get("uri") or asked["uri"],
            "metadata": {**asked["metadata"], **told.get("metadata", {})},
        }
    return merged


def _lists(artifacts: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    return {name: {"artifacts": [artifact]} for name, artifact in artifacts.items()}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
