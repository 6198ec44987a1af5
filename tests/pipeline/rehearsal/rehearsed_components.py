"""Components that tests compile, and that their containers import."""

import json
import os
import sys
from pathlib import Path

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact
from tfx.types.standard_artifacts import Float, PushedModel


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


@component
def Decide(pushed_model: OutputArtifact[PushedModel]) -> None:
    """As much of Push as a summary reads."""
    os.makedirs(pushed_model.uri)
    decision = {"blessed": True, "reason": "Better than version 2.", "pushed": "gs://b/pushed/3", "version": "3"}
    Path(pushed_model.uri, "decision.json").write_text(json.dumps(decision))


@component
def Break(pushed_model: InputArtifact[PushedModel]) -> None:
    raise ValueError("The images of LABELED cannot be trained on: label zebra is new.")


def train(fn_args) -> None:
    """A `run_fn` that leaves how its process was started."""
    os.makedirs(fn_args.serving_model_dir)
    os.makedirs(fn_args.model_run_dir)
    told = {"arguments": sys.argv, "variables": dict(os.environ), "custom_config": fn_args.custom_config}
    Path(fn_args.model_run_dir, "told.json").write_text(json.dumps(told))
