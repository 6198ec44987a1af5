"""`{{$…}}` in a container's command line: what of the ExecutorInput stands there."""

import json
import re
from collections.abc import Mapping
from typing import Any

from kfp.pipeline_spec import pipeline_spec_pb2 as schema

_PLACEHOLDER = re.compile(r"\{\{\$(.*?)\}\}")
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
