"""Conditions under which a task runs, in CEL, as TFX compiles predicates to it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import celpy
from celpy import celtypes

Artifacts: TypeAlias = Mapping[str, Sequence[Mapping[str, Any]]]

_INPUT = re.compile(r"\binputs\.artifacts\['([^']*)'\]")


class Condition:
    """An expression such as `inputs.artifacts['blessing'].artifacts[0].metadata['blessed'] == 1.0`."""

    def __init__(self, text: str) -> None:
        """Reads it.

        Raises:
            ValueError: it is not CEL.
        """
        self._text = text
        environment = celpy.Environment()
        try:
            self._program = environment.program(environment.compile(text))
        except celpy.CELParseError as error:
            raise ValueError(f"the condition {text!r} is not CEL:\n{error}") from error

    @property
    def inputs(self) -> frozenset[str]:
        """Names of the input artifacts that it looks at."""
        return frozenset(_INPUT.findall(self._text))

    def holds(self, artifacts: Artifacts) -> bool:
        """Whether it is true of a task's inputs: lists of RuntimeArtifacts by name.

        Raises:
            ValueError: there is no such artifact or property, values of two types meet, which CEL refuses, or it is
                neither true nor false.
        """
        inputs = {"artifacts": {name: {"artifacts": list(found)} for name, found in artifacts.items()}}
        try:
            value = self._program.evaluate({"inputs": _as_cel(inputs)})
        except celpy.CELEvalError as error:
            raise ValueError(f"the condition {self._text!r} cannot be decided: {error.args[0]}") from error
        if not isinstance(value, celtypes.BoolType):
            raise ValueError(f"the condition {self._text!r} is {value!r}, which is neither true nor false")
        return bool(value)


def _as_cel(value: Any) -> Any:
    """As CEL's values; every number is a double, as in the Structs that Vertex AI keeps properties in."""
    if isinstance(value, Mapping):
        return celtypes.MapType({celtypes.StringType(key): _as_cel(item) for key, item in value.items()})
    if isinstance(value, list):
        return celtypes.ListType([_as_cel(item) for item in value])
    return celtypes.StringType(value) if isinstance(value, str) else celtypes.DoubleType(value)
