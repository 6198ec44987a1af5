"""What of a job would fail or go wrong in silence: refused before anything runs, with the node named."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from kfp.pipeline_spec import pipeline_spec_pb2 as schema

from pipeline.runners.rehearsal import placeholders
from pipeline.runners.rehearsal.conditions import Condition
from pipeline.runners.rehearsal.specification import FinalStatus, FromTask, Job, Parameter, RefusedError, Task

_ANY_ARTIFACT = "tfx.Artifact"
_STRING = schema.ParameterType.STRING
_PYTHON_TYPES = {
    schema.ParameterType.NUMBER_DOUBLE: float,
    schema.ParameterType.NUMBER_INTEGER: float,
    _STRING: str,
    schema.ParameterType.BOOLEAN: bool,
    schema.ParameterType.LIST: list,
    schema.ParameterType.STRUCT: dict,
}
_ON_DATAFLOW = "--runner=DataflowRunner"
_BUILD_TIME_OBJECT = re.compile(r'"__class__":\s*"(RuntimeParameter|\w*Placeholder)"')


def validate(job: Job) -> None:
    """Checks that every task can get what it needs.

    Raises:
        RefusedError: a task depends on one that there isn't, or on itself; an input or a parameter is missing,
            unknown or of another type; a condition or a placeholder cannot be read.
    """
    for task in job.tasks.values():
        for name in sorted(task.after - set(job.tasks)):
            raise RefusedError(task.name, f"it depends on the task {name!r}, which there isn't")
        _check_artifacts(task, job.tasks)
        _check_parameters(task, job.tasks)
        _check_condition(task)
        if task.executor.HasField("container"):
            _check_container(task)
        else:
            _check_importer(task)
    _check_order(job.tasks)


def check_machines(job: Job) -> None:
    """Refuses what runs on machines that are not here.

    Raises:
        RefusedError: a Beam stage hires workers on Dataflow.
    """
    for task in job.tasks.values():
        if _ON_DATAFLOW in task.executor.container.args:
            raise RefusedError(
                task.name,
                "its Beam stage would hire workers on Dataflow; for a rehearsal compile with beam.runner local",
            )


def type_title(artifact_type: schema.ArtifactTypeSchema) -> str:
    """Name of an artifact type, such as `tfx.Model` or `components.ProbeResults`."""
    if artifact_type.schema_title:
        return artifact_type.schema_title
    return (yaml.safe_load(artifact_type.instance_schema) or {}).get("title", _ANY_ARTIFACT)


def _check_artifacts(task: Task, tasks: Mapping[str, Task]) -> None:
    declared = task.interface.input_definitions.artifacts
    _check_names(task, "input", declared, task.artifacts)
    for key, source in task.artifacts.items():
        made = _output(task, key, source, tasks, "artifacts")
        wanted, given = type_title(declared[key].artifact_type), type_title(made.artifact_type)
        if wanted not in (given, _ANY_ARTIFACT):
            raise RefusedError(task.name, f"input {key!r} is a {wanted}, and {source.task} makes a {given}")


def _check_parameters(task: Task, tasks: Mapping[str, Task]) -> None:
    declared = task.interface.input_definitions.parameters
    _check_names(task, "parameter", declared, task.parameters)
    for key, value in task.parameters.items():
        expected = declared[key].parameter_type
        if isinstance(value, FromTask):
            given = _output(task, key, value, tasks, "parameters").parameter_type
            fits = given == expected
            shown = f"{value.task} makes a {_type_name(given)}"
        else:
            fits, shown = _fits(value, expected), f"the value is {value!r:.80}"
        if not fits:
            raise RefusedError(task.name, f"parameter {key!r} is a {_type_name(expected)}, and {shown}")
        if isinstance(value, str):
            try:
                placeholders.check_value(value)
            except ValueError as error:
                raise RefusedError(task.name, f"parameter {key!r}: {error}") from error
        unfit = _BUILD_TIME_OBJECT.search(value) if isinstance(value, str) else None
        if unfit:
            raise RefusedError(
                task.name,
                f"parameter {key!r} holds a {unfit[1]} as an object, whose value only LocalDagRunner puts in its "
                "place: make it a whole parameter of the component",
            )


def _check_names(task: Task, kind: str, declared: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    for name in sorted(set(given) - set(declared)):
        raise RefusedError(task.name, f"its component has no {kind} {name!r}; it has {sorted(declared)}")
    for name in sorted(set(declared) - set(given)):
        definition = declared[name]
        if not definition.is_optional and not (kind == "parameter" and definition.HasField("default_value")):
            raise RefusedError(task.name, f"{kind} {name!r} is missing")


def _output(task: Task, key: str, source: FromTask, tasks: Mapping[str, Task], kind: str) -> Any:
    if source.task not in tasks:
        raise RefusedError(task.name, f"{key!r} comes from the task {source.task!r}, which there isn't")
    outputs = getattr(tasks[source.task].interface.output_definitions, kind)
    if source.key not in outputs:
        raise RefusedError(
            task.name,
            f"{key!r} comes from {source.key!r} of {source.task}, which of {kind} makes only {sorted(outputs)}",
        )
    return outputs[source.key]


def _fits(value: Parameter, expected: int) -> bool:
    if isinstance(value, FinalStatus):
        return expected == _STRING
    if not isinstance(value, _PYTHON_TYPES.get(expected, ())):
        return False
    return expected != schema.ParameterType.NUMBER_INTEGER or float(value).is_integer()


def _type_name(parameter_type: int) -> str:
    return schema.ParameterType.ParameterTypeEnum.Name(parameter_type)


def _check_condition(task: Task) -> None:
    if not task.condition:
        return
    try:
        condition = Condition(task.condition)
    except ValueError as error:
        raise RefusedError(task.name, str(error)) from error
    for name in sorted(condition.inputs - set(task.artifacts)):
        raise RefusedError(
            task.name,
            f"its condition looks at {name!r}, which is none of its inputs; TFX names an artifact so that the task "
            "itself reads: put the condition on another artifact",
        )


def _check_container(task: Task) -> None:
    container = task.executor.container
    if not container.image or not container.command:
        raise RefusedError(task.name, "a container needs an image and a command: an image's own is not seen here")
    driver = container.lifecycle.pre_cache_check
    for argument in [*container.command, *container.args, *driver.command, *driver.args]:
        try:
            placeholders.check(argument, task.interface)
        except ValueError as error:
            raise RefusedError(task.name, str(error)) from error


def _check_importer(task: Task) -> None:
    uri = task.executor.importer.artifact_uri
    if uri.WhichOneof("value") == "runtime_parameter" and uri.runtime_parameter not in task.parameters:
        raise RefusedError(task.name, f"its URI is the parameter {uri.runtime_parameter!r}, which is missing")
    if len(task.interface.output_definitions.artifacts) != 1:
        raise RefusedError(task.name, "an importer makes one artifact")


def _check_order(tasks: Mapping[str, Task]) -> None:
    waiting: dict[str, frozenset[str]] = {name: task.after for name, task in tasks.items()}
    while ready := [name for name, after in waiting.items() if not after & set(waiting)]:
        for name in ready:
            del waiting[name]
    if waiting:
        raise RefusedError(min(waiting), f"these tasks wait for one another: {_listed(sorted(waiting))}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
