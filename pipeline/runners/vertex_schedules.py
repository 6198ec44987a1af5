"""Schedules on Vertex AI: one of a name, one run at a time, and what was missed is skipped."""

import contextlib
import datetime
from dataclasses import dataclass
from pathlib import Path

from google.api_core import exceptions
from google.cloud import aiplatform_v1
from google.protobuf import field_mask_pb2

from pipeline.cloud import VertexConfig
from pipeline.config import PipelineConfig
from pipeline.runners import kubeflow
from pipeline.runners.vertex import endpoint, parent, pipeline_job
from pipeline.runners.vertex_calls import BEGIN, CALL, RETRY, ServiceError, explained, outcome
from pipeline.runners.vertex_cron import timed
from trainer.config import ConfigError

_LONGEST_NAME = 128  # of a display name, by Vertex AI's API
# All that a schedule is made of, so that an update leaves nothing of the schedule before.
_FIELDS = (
    "cron",
    "create_pipeline_job_request",
    "max_concurrent_run_count",
    "max_concurrent_active_run_count",
    "allow_queueing",
)


@dataclass(frozen=True)
class Schedule:
    """A schedule as Vertex AI has it.

    Attributes:
        resource: projects/P/locations/L/schedules/NUMBER.
        name: what people call it.
        cron: with its time zone.
        state: ACTIVE, PAUSED or COMPLETED.
        next_run: None if there will be none.
        is_new: whether this call made it.
    """

    resource: str
    name: str
    cron: str
    state: str
    next_run: datetime.datetime | None
    is_new: bool = False


def schedule(
    config: PipelineConfig, cron: str, directory: str | Path, *, name: str = "simclr", timezone: str = "UTC"
) -> Schedule:
    """Compiles the pipeline and runs it by the clock; a schedule of this name is changed, not doubled.

    One run at a time: a run that comes due while the one before still runs is skipped, not queued, and so is one
    that came due while the schedule was paused. Each run reads all images that are there when it begins, so a run
    made up for later would train on the same images as the next. Nothing is told of the sources' states: each run
    reads them anew, see `compile_pipeline`.

    Args:
        config: see `submit`.
        cron: five fields: minute, hour, day of the month, month, day of the week.
        directory: of the compiled files.
        name: of the schedule.
        timezone: IANA name in which the cron is meant.

    Raises:
        ConfigError: the configuration does not compile, or cron, time zone or name is none.
        ServiceError: Vertex AI refuses, or several schedules have this name.
    """
    when = timed(cron, timezone)
    if not 0 < len(name) <= _LONGEST_NAME:
        raise ConfigError(f"name = {name!r}: must be of 1 to {_LONGEST_NAME} characters, such as simclr")
    compiled = kubeflow.compile_pipeline(config, directory)
    vertex = config.vertex
    with explained(vertex, "schedule"):
        request = {"parent": parent(vertex), "pipeline_job": pipeline_job(vertex, compiled.job)}
        wanted = aiplatform_v1.Schedule(
            display_name=name,
            cron=when,
            create_pipeline_job_request=request,
            # The first limits how many are begun at once, only the second how many run.
            max_concurrent_run_count=1,
            max_concurrent_active_run_count=1,
            allow_queueing=False,
        )
        return _put(_client(vertex), vertex, wanted)


def unschedule(config: PipelineConfig, *, name: str = "simclr") -> list[Schedule]:
    """Deletes the schedules of this name and returns what they were; runs that they began go on.

    Raises:
        ConfigError: no project is given.
        ServiceError: none has this name, or Vertex AI refuses.
    """
    vertex = _with_project(config)
    with explained(vertex, "unschedule"):
        client = _client(vertex)
        found = _find(client, vertex, name)
        if not found:
            raise ServiceError(
                f"unschedule: no schedule in {parent(vertex)} is called {name}: `make schedules` lists them"
            )
        for item in found:
            # It is not there any more after an attempt whose answer was lost.
            with contextlib.suppress(exceptions.NotFound):
                outcome(client.delete_schedule(name=item.name, **CALL))
    return [_of(item) for item in found]


def schedules(config: PipelineConfig) -> list[Schedule]:
    """The schedules of the project in its region, by name.

    Raises:
        ConfigError: no project is given.
        ServiceError: Vertex AI refuses.
    """
    vertex = _with_project(config)
    with explained(vertex, "schedules"):
        found = _client(vertex).list_schedules(parent=parent(vertex), **CALL)
        return sorted((_of(item) for item in found), key=lambda item: (item.name, item.resource))


def _with_project(config: PipelineConfig) -> VertexConfig:
    if config.vertex.project is None:
        raise ConfigError("vertex.project = null: must be given; see infra/vertex.example.yaml")
    return config.vertex


def _client(vertex: VertexConfig) -> aiplatform_v1.ScheduleServiceClient:
    return aiplatform_v1.ScheduleServiceClient(client_options=endpoint(vertex))


def _put(
    client: aiplatform_v1.ScheduleServiceClient, vertex: VertexConfig, wanted: aiplatform_v1.Schedule
) -> Schedule:
    """Makes the schedule, or changes the one of its name; a lost answer does not make a second."""
    is_new = False

    def attempt() -> aiplatform_v1.Schedule:
        nonlocal is_new
        # Each time anew: Vertex AI numbers schedules itself, so only the name tells what a lost answer has made.
        found = _find(client, vertex, wanted.display_name)
        if len(found) > 1:
            name = wanted.display_name
            raise ServiceError(
                f"schedule: {len(found)} schedules are called {name}: `make unschedule NAME={name}`, then again"
            )
        if not found:
            is_new = True
            return client.create_schedule(parent=parent(vertex), schedule=wanted, **BEGIN)
        wanted.name = found[0].name
        mask = field_mask_pb2.FieldMask(paths=_FIELDS)
        return client.update_schedule(schedule=wanted, update_mask=mask, **CALL)

    return _of(RETRY(attempt)(), is_new=is_new)


def _find(
    client: aiplatform_v1.ScheduleServiceClient, vertex: VertexConfig, name: str
) -> list[aiplatform_v1.Schedule]:
    # Not by the service's filter, in whose language a name would have to be quoted.
    return [item for item in client.list_schedules(parent=parent(vertex), **CALL) if item.display_name == name]


def _of(resource: aiplatform_v1.Schedule, *, is_new: bool = False) -> Schedule:
    return Schedule(
        resource.name,
        resource.display_name,
        resource.cron,
        resource.state.name,
        resource.next_run_time or None,
        is_new,
    )
