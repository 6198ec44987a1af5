"""Components that tests compile, and that their containers import."""

import json

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact
from tfx.types.standard_artifacts import Float


class Note(artifact.Artifact):
    TYPE_NAME = "rehearsed_components.Note"


@component
def Write(note: OutputArtifact[Note], number: Parameter[int], secret: Parameter[bool] = False) -> None:
    with open(note.uri, "w") as file:
        json.dump({"number": number, "of": type(number).__name__, "secret": secret}, file)
    note.set_int_custom_property("number", number)


@component
def Read(note: InputArtifact[Note], copy: OutputArtifact[Note]) -> None:
    with open(note.uri) as file, open(copy.uri, "w") as written:
        written.write(file.read())


@component
def TakeValue(accuracy: float, loss: InputArtifact[Float]) -> None:
    raise AssertionError


@component
def TakeList(names: Parameter[list[str]], name: Parameter[str]) -> None:
    raise AssertionError
