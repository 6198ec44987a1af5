"""Jobs made by hand: the JSON that TFX would write, with a few lines of Python as containers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.runners.rehearsal.result import Result
from pipeline.runners.rehearsal.run import Outcome, rehearse
from pipeline.runners.rehearsal.scheduling import Observer
from pipeline.runners.rehearsal.specification import Task

# What every container here begins with: `told` is its ExecutorInput, and `say` leaves an ExecutorOutput.
_PRELUDE = """
import json, os, pathlib, sys
told = json.loads(sys.argv[1])
values = told["inputs"]["parameterValues"]
def input_uri(name): return pathlib.Path(told["inputs"]["artifacts"][name]["artifacts"][0]["uri"])
def output_uri(name): return pathlib.Path(told["outputs"]["artifacts"][name]["artifacts"][0]["uri"])
def say(**answer): pathlib.Path(told["outputs"]["outputFile"]).write_text(json.dumps(answer))
"""


def from_task(task: str, key: str) -> dict[str, Any]:
    return {"taskOutputArtifact": {"producerTask": task, "outputArtifactKey": key}}


class Job:
    """A PipelineJob that tests add tasks to and spoil."""

    MODEL = {"instanceSchema": "title: tfx.Model\ntype: object\n"}

    def __init__(self, root: str = "gs://bucket/root") -> None:
        self.tasks: dict[str, Any] = {}
        self.components: dict[str, Any] = {}
        self.executors: dict[str, Any] = {}
        self.json: dict[str, Any] = {
            "pipelineSpec": {
                "schemaVersion": "2.1.0",
                "pipelineInfo": {"name": "by-hand"},
                "root": {"dag": {"tasks": self.tasks}},
                "components": self.components,
                "deploymentSpec": {"executors": self.executors},
            },
            "runtimeConfig": {"gcsOutputDirectory": root},
        }

    def container(
        self,
        name: str,
        script: str = "",
        *,
        inputs: dict[str, str] | None = None,
        outputs: tuple[str, ...] = (),
        parameters: dict[str, Any] | None = None,
        **task: Any,
    ) -> dict[str, Any]:
        """Adds a task that runs a script; `inputs` are producers as `task.key`; returns its executor's container."""
        sources = {key: from_task(*source.split(".")) for key, source in (inputs or {}).items()}
        parameters = parameters or {}
        self.tasks[name] = {
            "taskInfo": {"name": name},
            "componentRef": {"name": name},
            "inputs": {
                "artifacts": sources,
                "parameters": {key: {"runtimeValue": {"constant": value}} for key, value in parameters.items()},
            },
            "dependentTasks": sorted({source.split(".")[0] for source in (inputs or {}).values()}),
            **task,
        }
        self.components[name] = {
            "executorLabel": name,
            "inputDefinitions": {
                "artifacts": {key: {"artifactType": self.MODEL} for key in sources},
                "parameters": {
                    key: {"parameterType": "STRING" if isinstance(value, str) else "NUMBER_DOUBLE"}
                    for key, value in parameters.items()
                },
            },
            "outputDefinitions": {
                "artifacts": {key: {"artifactType": self.MODEL} for key in outputs},
                "parameters": {},
            },
        }
        container = {"image": "image", "command": ["python", "-S", "-c", _PRELUDE + script], "args": ["{{$}}"]}
        self.executors[name] = {"container": container}
        return container

    def write(self, folder: Path) -> Path:
        file = folder / "job.json"
        file.write_text(json.dumps(self.json))
        return file


class Rehearsals(Observer):
    """Rehearses into one folder, and remembers what it was told of and what was waited for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.states: dict[str, str] = {}
        self.running: set[str] = set()
        self.most_running = 0
        self.waits_s: list[float] = []
        self.when_waiting: list[Callable[[], object]] = []

    def __call__(self, job: Job, **arguments: Any) -> Outcome:
        self.states.clear()
        return rehearse(job.write(self.folder), self.folder, observer=self, sleep=self.waits_s.append, **arguments)

    def waits(self) -> None:
        self.when_waiting.pop()()

    def started(self, task: Task) -> None:
        self.running.add(task.name)
        self.most_running = max(self.most_running, len(self.running))

    def ended(self, task: Task, result: Result) -> None:
        self.running.discard(task.name)
        self.states[task.name] = result.state.name

    def log(self, task: str) -> str:
        return (self.folder / "logs" / f"{task}.log").read_text()


@pytest.fixture
def job() -> Job:
    return Job()


@pytest.fixture
def rehearsal(tmp_path) -> Rehearsals:
    return Rehearsals(tmp_path)
