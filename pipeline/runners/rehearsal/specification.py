"""A compiled job as it is to be executed: its tasks with their inputs, executors and policies, read strictly."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message
from kfp.pipeline_spec import pipeline_spec_pb2 as schema

_VERSION = "2.1.0"
_PIPELINE = "the pipeline"
_Executors = schema.PipelineDeploymentConfig
_ANY_ENDING = schema.PipelineTaskSpec.TriggerPolicy.ALL_UPSTREAM_TASKS_COMPLETED
_M = TypeVar("_M", bound=Message)


class RefusedError(ValueError):
    """A job that would not run on Vertex AI: which node, which rule, what to do."""

    def __init__(self, node: str, message: str) -> None:
        super().__init__(f"{node}: {message}")
        self.node = node


@dataclass(frozen=True)
class FromTask:
    """A value or an artifact that another task makes."""

    task: str
    key: str


@dataclass(frozen=True)
class FinalStatus:
    """How other tasks ended, as JSON of a PipelineTaskFinalStatus.

    Attributes:
        dag: the name under which they were put together.
        tasks: their names.
    """

    dag: str
    tasks: tuple[str, ...]


Constant: TypeAlias = str | float | bool | list | dict
Parameter: TypeAlias = Constant | FromTask | FinalStatus


@dataclass(frozen=True)
class Retry:
    """How often a failed task is tried again, and after how long: `backoff_s`, each time `factor` times as long."""

    times: int = 0
    backoff_s: float = 0.0
    factor: float = 2.0
    longest_s: float = 3600.0

    def wait_s(self, failures: int) -> float:
        """Seconds to wait after a number of failures, from 1."""
        return min(self.backoff_s * self.factor ** (failures - 1), self.longest_s)


@dataclass(frozen=True)
class Task:
    """One node.

    Attributes:
        name: of the node.
        parameters: values by name.
        artifacts: the producers of its input artifacts by name.
        interface: what its component declares; a ComponentSpec.
        executor: how it runs, an ExecutorSpec with `container` or `importer`.
        after: names of all tasks that must have ended before.
        condition: CEL expression under which it runs; empty: always.
        runs_always: also when a task before it failed.
        cached: whether results of an earlier execution may be used.
        retry: what happens when it fails.
    """

    name: str
    parameters: Mapping[str, Parameter]
    artifacts: Mapping[str, FromTask]
    interface: schema.ComponentSpec
    executor: schema.PipelineDeploymentConfig.ExecutorSpec
    after: frozenset[str]
    condition: str = ""
    runs_always: bool = False
    cached: bool = False
    retry: Retry = field(default_factory=Retry)


@dataclass(frozen=True)
class Job:
    """A pipeline with its name, the root of its artifacts and its tasks by name."""

    name: str
    root: str
    tasks: Mapping[str, Task]


def read_job(job: Mapping[str, Any]) -> Job:
    """Reads a PipelineJob as KubeflowV2DagRunner writes it.

    Args:
        job: the JSON.

    Returns:
        Its tasks; what a DAG within the pipeline holds stands beside the others.

    Raises:
        RefusedError: a field or a reference that there isn't, or what TFX never compiles to.
    """
    spec = job.get("pipelineSpec", {})
    if spec.get("schemaVersion") != _VERSION:
        raise RefusedError(
            _PIPELINE,
            f"its schema version must be {_VERSION}, in which parameters have types; got "
            f"{spec.get('schemaVersion')!r}: compile with use_pipeline_spec_2_1=True",
        )
    runtime = _parse(job.get("runtimeConfig", {}), schema.PipelineJob.RuntimeConfig, _PIPELINE)
    if not runtime.gcs_output_directory:
        raise RefusedError(_PIPELINE, "runtimeConfig.gcsOutputDirectory, the root of the artifacts, is missing")
    reader = _Reader(spec.get("components", {}), spec.get("deploymentSpec", {}).get("executors", {}))
    root = _parse(_without_dag(spec.get("root", {})), schema.ComponentSpec, _PIPELINE)
    values = _pipeline_parameters(root.input_definitions.parameters, runtime.parameter_values)
    name = spec.get("pipelineInfo", {}).get("name", "pipeline")
    return Job(name, runtime.gcs_output_directory, reader.tasks(_dag_tasks(spec["root"]), values))


def constant_value(value: Message) -> Constant:
    """A protobuf Value as Python; numbers are floats, as they are to a container."""
    return json_format.MessageToDict(value)


def _pipeline_parameters(declared: Mapping[str, Message], given: Mapping[str, Message]) -> dict[str, Constant]:
    for name in sorted(set(given) - set(declared)):
        raise RefusedError(_PIPELINE, f"it has no parameter {name!r}; its parameters are {sorted(declared)}")
    for name in sorted(set(declared) - set(given)):
        if not declared[name].HasField("default_value"):
            raise RefusedError(
                _PIPELINE,
                f"parameter {name!r} has no value, and the compiler drops the defaults of runtime parameters: "
                "put one into runtimeConfig.parameterValues",
            )
    values = {name: definition.default_value for name, definition in declared.items()} | dict(given)
    return {name: constant_value(value) for name, value in values.items()}


class _Reader:
    """Follows the references of a pipeline's tasks."""

    def __init__(self, components: Mapping[str, Any], executors: Mapping[str, Any]) -> None:
        self._components, self._executors = components, executors

    def tasks(self, dag: Mapping[str, Any], values: Mapping[str, Constant]) -> dict[str, Task]:
        """All tasks of a DAG and of those within; `values` are the parameters of the component that it is."""
        parsed = {name: _parse(task, schema.PipelineTaskSpec, name) for name, task in dag.items()}
        inner: dict[str, tuple[str, ...]] = {}
        found: dict[str, Task] = {}
        for name, task in parsed.items():
            if within := _dag_tasks(self._components.get(task.component_ref.name, {})):
                if task.inputs.artifacts:
                    raise RefusedError(name, "a DAG within the pipeline cannot take artifacts here")
                handed_down = {key: self._parameter(name, key, p, values, {}) for key, p in _given(task)}
                tasks = self.tasks(within, handed_down)
                inner[name] = tuple(tasks)
                for twice in sorted(set(found) & set(tasks)):
                    raise RefusedError(twice, "two tasks have this name")
                found |= tasks
        for name, task in parsed.items():
            if name not in inner:
                found[name] = self._task(name, task, values, inner)
        return found

    def _task(
        self,
        name: str,
        task: schema.PipelineTaskSpec,
        values: Mapping[str, Constant],
        inner: Mapping[str, tuple[str, ...]],
    ) -> Task:
        component = self._component(name, task.component_ref.name)
        if task.HasField("artifact_iterator") or task.HasField("parameter_iterator"):
            raise RefusedError(name, "loops are not run here; TFX compiles none")
        parameters = {key: self._parameter(name, key, p, values, inner) for key, p in _given(task)}
        artifacts = {key: _producer(name, key, source) for key, source in sorted(task.inputs.artifacts.items())}
        sources = [*parameters.values(), *artifacts.values()]
        after = {one for named in task.dependent_tasks for one in inner.get(named, (named,))}
        after |= {source.task for source in sources if isinstance(source, FromTask)}
        after |= {one for source in sources if isinstance(source, FinalStatus) for one in source.tasks}
        return Task(
            name=name,
            parameters=parameters,
            artifacts=artifacts,
            interface=component,
            executor=self._executor(name, component.executor_label),
            after=frozenset(after),
            condition=task.trigger_policy.condition,
            runs_always=task.trigger_policy.strategy == _ANY_ENDING,
            cached=task.caching_options.enable_cache,
            retry=_retry(task),
        )

    def _component(self, node: str, name: str) -> schema.ComponentSpec:
        if name not in self._components:
            raise RefusedError(node, f"it is of the component {name!r}, which is not defined")
        return _parse(_without_dag(self._components[name]), schema.ComponentSpec, node)

    def _executor(self, node: str, label: str) -> _Executors.ExecutorSpec:
        if label not in self._executors:
            raise RefusedError(node, f"its executor {label!r} is not defined")
        executor = _parse(self._executors[label], _Executors.ExecutorSpec, node)
        kind = executor.WhichOneof("spec")
        if kind not in ("container", "importer"):
            raise RefusedError(
                node,
                f"its executor is of the kind {kind}, which needs Vertex's own store or service; a container or an "
                "importer runs anywhere: read what earlier runs left inside the component",
            )
        return executor

    @staticmethod
    def _parameter(
        node: str,
        key: str,
        source: schema.TaskInputsSpec.InputParameterSpec,
        values: Mapping[str, Constant],
        inner: Mapping[str, tuple[str, ...]],
    ) -> Parameter:
        kind = source.WhichOneof("kind")
        if kind == "runtime_value" and source.runtime_value.WhichOneof("value") == "constant":
            return constant_value(source.runtime_value.constant)
        if kind == "component_input_parameter":
            if source.component_input_parameter not in values:
                raise RefusedError(
                    node,
                    f"parameter {key!r} takes {source.component_input_parameter!r} of the pipeline or DAG around it, "
                    f"which has only {sorted(values)}",
                )
            return values[source.component_input_parameter]
        if kind == "task_output_parameter":
            output = source.task_output_parameter
            return FromTask(output.producer_task, output.output_parameter_key)
        if kind == "task_final_status":
            dag = source.task_final_status.producer_task
            return FinalStatus(dag, inner.get(dag, (dag,)))
        raise RefusedError(node, f"parameter {key!r} has no value in a form of this schema version")


def _dag_tasks(component: Mapping[str, Any]) -> Mapping[str, Any]:
    return component.get("dag", {}).get("tasks", {})


def _without_dag(component: Mapping[str, Any]) -> dict[str, Any]:
    """A component without its tasks, which are parsed one by one so that each is named in what is wrong with it."""
    return {key: value for key, value in component.items() if key != "dag"}


def _given(task: schema.PipelineTaskSpec) -> list[tuple[str, schema.TaskInputsSpec.InputParameterSpec]]:
    return sorted(task.inputs.parameters.items())


def _producer(node: str, key: str, source: schema.TaskInputsSpec.InputArtifactSpec) -> FromTask:
    if source.WhichOneof("kind") != "task_output_artifact":
        raise RefusedError(node, f"input {key!r} does not come from a task")
    return FromTask(source.task_output_artifact.producer_task, source.task_output_artifact.output_artifact_key)


def _retry(task: schema.PipelineTaskSpec) -> Retry:
    policy = task.retry_policy
    given = {
        "times": policy.max_retry_count,
        "backoff_s": policy.backoff_duration.ToTimedelta().total_seconds(),
        "factor": policy.backoff_factor,
        "longest_s": policy.backoff_max_duration.ToTimedelta().total_seconds(),
    }
    return Retry(**{name: value for name, value in given.items() if value})


def _parse(value: Any, message: type[_M], node: str) -> _M:
    try:
        return json_format.ParseDict(value, message())
    except json_format.ParseError as error:
        raise RefusedError(node, f"it is not a {message.__name__} of schema {_VERSION}: {error}") from error
