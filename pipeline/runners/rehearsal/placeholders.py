"""`{{$…}}`: in a command line a part of the ExecutorInput, in the value of a parameter what is known of the run."""

import json
import re
from collections.abc import Mapping
from typing import Any

from kfp.pipeline_spec import pipeline_spec_pb2 as schema

_PLACEHOLDER = re.compile(r"\{\{\$(.*?)\}\}")
# What Vertex AI fills into the value of a parameter, by the names that `fill_value` takes.
_OF_THE_RUN = {
    "pipeline_job_name": "job_name",
    "pipeline_job_resource_name": "job_resource_name",
    "pipeline_task_name": "task_name",
    "pipeline_root": "root",
}
_PATH = re.compile(r"\.(inputs|outputs)\.(?:(artifacts)\['([^']+)'\]\.uri|(parameters)\['([^']+)'\](\.output_file)?)")


def check(text: str, interface: schema.ComponentSpec) -> None:
    """Refuses what could not be filled in.

    Args:
        text: an argument.
        interface: of the component that it is an argument of.

    Raises:
        ValueError: a placeholder of no known form, or of an input or output that the component doesn't declare.
    """
    declared = {"inputs": interface.input_definitions, "outputs": interface.output_definitions}
    for path in _PLACEHOLDER.findall(text):
        if path == "":
            continue
        match = _PATH.fullmatch(path)
        if match is None or bool(match[6]) != (match[1] == "outputs" and bool(match[4])):
            raise ValueError(
                f"the placeholder {{{{${path}}}}} cannot be filled in; there are the whole {{{{$}}}}, "
                ".inputs.parameters['name'], .outputs.parameters['name'].output_file, and .inputs and .outputs"
                ".artifacts['name'].uri: read the value of an artifact inside the container"
            )
        side, kind, name = match[1], match[2] or match[4], match[3] or match[5]
        if name not in getattr(declared[side], kind):
            raise ValueError(f"the placeholder {{{{${path}}}}} is of none of the component's {kind}")


def fill(text: str, executor_input: Mapping[str, Any]) -> str:
    """Puts the values of an ExecutorInput, as JSON, into an argument that `check` has passed."""

    def value(match: re.Match[str]) -> str:
        if match[1] == "":
            return json.dumps(executor_input)
        path = _PATH.fullmatch(match[1])
        of_side = executor_input[path[1]]
        if path[2]:
            return of_side["artifacts"][path[3]]["artifacts"][0]["uri"]
        if path[6]:
            return of_side["parameters"][path[5]]["outputFile"]
        given = of_side["parameterValues"][path[5]]
        return given if isinstance(given, str) else json.dumps(given)

    return _PLACEHOLDER.sub(value, text)


def check_value(text: str) -> None:
    """Refuses the value of a parameter that would reach its container with a placeholder in it.

    Raises:
        ValueError: it has one that is not filled in here.
    """
    for path in _PLACEHOLDER.findall(text):
        if path.removeprefix(".") not in _OF_THE_RUN:
            known = ", ".join(f"{{{{$.{name}}}}}" for name in _OF_THE_RUN)
            raise ValueError(f"the placeholder {{{{${path}}}}} in a value cannot be filled in; there are {known}")


def fill_value(text: str, run: Mapping[str, str]) -> str:
    """Puts what is known of a run into the value of a parameter that `check_value` has passed.

    Args:
        text: the value.
        run: `job_name`, `job_resource_name`, `task_name`, `root`.
    """
    return _PLACEHOLDER.sub(lambda match: run[_OF_THE_RUN[match[1].removeprefix(".")]], text)
