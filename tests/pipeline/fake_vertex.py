"""A Vertex AI on loopback for the tests: gRPC as the unmodified clients speak it, pipeline jobs by REST too.

Its clock is moved by the test.

It proves what the clients send and how they take answers; it does not prove what Google accepts.
"""

import copy
import datetime
import re
import threading
import zoneinfo
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import fake_vertex_rest
import grpc
from cronsim import CronSim
from fake_batch import BatchJobs
from fake_registry import Models, Refusal, listed, resource_of
from google.cloud.aiplatform_v1 import types
from google.protobuf import empty_pb2, json_format

Job, Schedule, Detail = types.PipelineJob, types.Schedule, types.PipelineTaskDetail
# Jobs on a page of a list: a client that reads only the first is found out.
_PAGE = 2
_ACTIVE = ("PIPELINE_STATE_QUEUED", "PIPELINE_STATE_PENDING", "PIPELINE_STATE_RUNNING", "PIPELINE_STATE_CANCELLING")
_SERVICES = Models.SERVICES | {
    "PipelineService": {
        "CreatePipelineJob": types.CreatePipelineJobRequest,
        "GetPipelineJob": types.GetPipelineJobRequest,
        "ListPipelineJobs": types.ListPipelineJobsRequest,
        "CancelPipelineJob": types.CancelPipelineJobRequest,
    },
    "ScheduleService": {
        "CreateSchedule": types.CreateScheduleRequest,
        "GetSchedule": types.GetScheduleRequest,
        "ListSchedules": types.ListSchedulesRequest,
        "UpdateSchedule": types.UpdateScheduleRequest,
        "DeleteSchedule": types.DeleteScheduleRequest,
        "PauseSchedule": types.PauseScheduleRequest,
        "ResumeSchedule": types.ResumeScheduleRequest,
    },
    "MetadataService": {
        "GetMetadataStore": types.GetMetadataStoreRequest,
        "GetContext": types.GetContextRequest,
        "CreateContext": types.CreateContextRequest,
        "AddContextChildren": types.AddContextChildrenRequest,
        "GetArtifact": types.GetArtifactRequest,
    },
}


class FakeVertex(BatchJobs, Models):
    """The state of one project's Vertex AI.

    Attributes:
        now: its clock; only `advance` moves it.
        jobs, schedules, contexts: by resource name.
        children: pairs of context names, parent first.
        calls: name and request of each call, in order, the refused ones too.
        hosts: that clients meant to reach.
        begun, cancelled: told of each job that begins, and of each that is cancelled.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = datetime.datetime(2026, 3, 2, 1, 30, tzinfo=datetime.timezone.utc)
        self.jobs: dict[str, Job] = {}
        self.schedules: dict[str, Schedule] = {}
        self.contexts: dict[str, types.Context] = {}
        self.children: list[tuple[str, str]] = []
        self.calls: list[tuple[str, Any]] = []
        self.hosts: list[str] = []
        self.begun: Callable[[Job], None] = lambda job: None
        self.cancelled: Callable[[Job], None] = lambda job: None
        self._refusals: dict[str, list[tuple[Refusal, bool]]] = {}
        self._steps: list[Callable[[Job], None]] = []
        self._made = 0
        # Whatever comes at once, a job is made once.
        self._lock = threading.RLock()

    def refuse(self, method: str, code: grpc.StatusCode, message: str = "", *, times: int = 1, after: bool = False):
        """The next calls of a method fail; `after`: the call does its work and only its answer is lost."""
        self._refusals.setdefault(method, []).extend([(Refusal(code, message), after)] * times)

    def script(self, *steps: Callable[[Job], None]) -> None:
        """Each look at a job first lets one of these happen to it."""
        self._steps.extend(steps)

    def called(self, method: str) -> list[Any]:
        return [request for name, request in self.calls if name == method]

    def advance(self, to: datetime.datetime) -> None:
        """Moves the clock; schedules start what comes due on the way."""
        self._foresee_all()
        while due := [schedule for schedule in self._active() if schedule.next_run_time <= to]:
            first = min(due, key=lambda schedule: schedule.next_run_time)
            self.now = first.next_run_time
            self._start(first)
            self._foresee(first)
        self.now = to
        self._foresee_all()

    def _foresee_all(self) -> None:
        for schedule in self.schedules.values():
            self._foresee(schedule)

    def _active(self) -> list[Schedule]:
        return [schedule for schedule in self.schedules.values() if schedule.state == Schedule.State.ACTIVE]

    def answer(self, method: str, request: Any) -> Any:
        with self._lock:
            return self._answer(method, request)

    def _answer(self, method: str, request: Any) -> Any:
        # As it came: the answers below are made of the request's own parts, and change them.
        self.calls.append((method, _copy(request)))
        refusal, after = self._refusals[method].pop(0) if self._refusals.get(method) else (None, False)
        if refusal and not after:
            raise refusal
        response = getattr(self, f"_{method}")(request)
        if refusal:
            raise refusal
        return response

    def _CreatePipelineJob(self, request: types.CreatePipelineJobRequest) -> Job:
        name = f"{request.parent}/pipelineJobs/{request.pipeline_job_id}"
        if name in self.jobs:
            raise Refusal(grpc.StatusCode.ALREADY_EXISTS, f"{name} exists")
        return self._begin(name, request.pipeline_job)

    def _GetPipelineJob(self, request: types.GetPipelineJobRequest) -> Job:
        job = resource_of(self.jobs, request.name)
        if self._steps:
            self._steps.pop(0)(job)
        return job

    def _ListPipelineJobs(self, request: types.ListPipelineJobsRequest) -> types.ListPipelineJobsResponse:
        prefix, first = f"{request.parent}/", int(request.page_token or 0)
        found = [job for name, job in self.jobs.items() if name.startswith(prefix) and _is_taken(request.filter, job)]
        rest = str(first + _PAGE) if first + _PAGE < len(found) else ""
        page = [_masked(job, list(request.read_mask.paths)) for job in found[first : first + _PAGE]]
        return types.ListPipelineJobsResponse(pipeline_jobs=page, next_page_token=rest)

    def _CancelPipelineJob(self, request: types.CancelPipelineJobRequest) -> empty_pb2.Empty:
        job = resource_of(self.jobs, request.name)
        job.state = types.PipelineState.PIPELINE_STATE_CANCELLED
        self.cancelled(job)
        return empty_pb2.Empty()

    def _CreateSchedule(self, request: types.CreateScheduleRequest) -> Schedule:
        if request.schedule.max_concurrent_run_count < 1:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "max_concurrent_run_count is required")
        self._made += 1
        schedule = _copy(request.schedule)
        schedule.name = f"{request.parent}/schedules/{self._made}"
        schedule.state = Schedule.State.ACTIVE
        schedule.create_time = self.now
        self.schedules[schedule.name] = schedule
        self._foresee(schedule)
        return schedule

    def _GetSchedule(self, request: types.GetScheduleRequest) -> Schedule:
        return resource_of(self.schedules, request.name)

    def _ListSchedules(self, request: types.ListSchedulesRequest) -> types.ListSchedulesResponse:
        return types.ListSchedulesResponse(schedules=list(listed(self.schedules, request)))

    def _UpdateSchedule(self, request: types.UpdateScheduleRequest) -> Schedule:
        schedule = resource_of(self.schedules, request.schedule.name)
        for field in request.update_mask.paths:
            setattr(schedule, field, getattr(request.schedule, field))
        self._foresee(schedule)
        return schedule

    def _DeleteSchedule(self, request: types.DeleteScheduleRequest) -> Any:
        resource_of(self.schedules, request.name)
        del self.schedules[request.name]
        return self.operation(request.name, empty_pb2.Empty())

    def _PauseSchedule(self, request: types.PauseScheduleRequest) -> empty_pb2.Empty:
        resource_of(self.schedules, request.name).state = Schedule.State.PAUSED
        return empty_pb2.Empty()

    def _ResumeSchedule(self, request: types.ResumeScheduleRequest) -> empty_pb2.Empty:
        schedule = resource_of(self.schedules, request.name)
        schedule.state = Schedule.State.ACTIVE
        self._foresee(schedule)
        return empty_pb2.Empty()

    def _GetMetadataStore(self, request: types.GetMetadataStoreRequest) -> types.MetadataStore:
        return types.MetadataStore(name=request.name)

    def _GetContext(self, request: types.GetContextRequest) -> types.Context:
        return resource_of(self.contexts, request.name)

    def _CreateContext(self, request: types.CreateContextRequest) -> types.Context:
        context = request.context
        context.name = f"{request.parent}/contexts/{request.context_id}"
        if context.name in self.contexts:
            raise Refusal(grpc.StatusCode.ALREADY_EXISTS, f"{context.name} exists")
        self.contexts[context.name] = context
        return context

    def _GetArtifact(self, request: types.GetArtifactRequest) -> types.Artifact:
        return resource_of({}, request.name)

    def _AddContextChildren(self, request: types.AddContextChildrenRequest) -> types.AddContextChildrenResponse:
        resource_of(self.contexts, request.context)
        self.children += [(request.context, child) for child in request.child_contexts]
        return types.AddContextChildrenResponse()

    def _begin(self, name: str, wanted: Job) -> Job:
        job = _copy(wanted)
        job.name, job.state, job.create_time = name, types.PipelineState.PIPELINE_STATE_PENDING, self.now
        place, _, run_id = name.partition("/pipelineJobs/")
        context = types.Context(name=f"{place}/metadataStores/default/contexts/{run_id}")
        self.contexts[context.name] = context
        job.job_detail.pipeline_run_context = context
        self.jobs[name] = job
        self.begun(job)
        return job

    def _start(self, schedule: Schedule) -> None:
        active = [
            job for job in self.jobs.values() if job.schedule_name == schedule.name and job.state.name in _ACTIVE
        ]
        limit = schedule.max_concurrent_active_run_count
        if limit and len(active) >= limit:
            assert not schedule.allow_queueing, "this fake has no queue"
            return
        request = schedule.create_pipeline_job_request
        number = schedule.name.rpartition("/")[2]
        job = self._begin(f"{request.parent}/pipelineJobs/s{number}-{self.now:%Y%m%d%H%M}", request.pipeline_job)
        job.schedule_name = schedule.name
        schedule.started_run_count += 1

    def _foresee(self, schedule: Schedule) -> None:
        """The next time at which it comes due."""
        zone, fields = re.fullmatch(r"TZ=(\S+) (.+)", schedule.cron).groups()
        schedule.next_run_time = next(CronSim(fields, self.now.astimezone(zoneinfo.ZoneInfo(zone))))


def node(name: str, state: str, *, start_s: float | None = None, end_s: float | None = None, error: str = ""):
    """A step of a script: a node of the job comes into this state, at these seconds after the job was made."""

    def step(job: Job) -> None:
        job.state = types.PipelineState.PIPELINE_STATE_RUNNING
        others = [detail for detail in job.job_detail.task_details if detail.task_name != name]
        times = [at if at is None else job.create_time + datetime.timedelta(seconds=at) for at in (start_s, end_s)]
        detail = Detail(task_name=name, state=Detail.State[state], start_time=times[0], end_time=times[1])
        if error:
            detail.error = {"code": 3, "message": error}
        job.job_detail.task_details = [*others, detail]

    return step


def end(state: str, error: str = ""):
    """A step of a script: the job has ended."""

    def step(job: Job) -> None:
        job.state = types.PipelineState[f"PIPELINE_STATE_{state}"]
        if error:
            job.error = {"code": 3, "message": error}

    return step


@contextmanager
def serving(monkeypatch: Any) -> Iterator[FakeVertex]:
    """Serves on loopback, and lets every client's channel, with whatever host it means, end there."""
    from google.api_core import grpc_helpers

    fake = FakeVertex()
    server = server_of(fake)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    channels = []

    def create_channel(target: str, **_: Any) -> grpc.Channel:
        fake.hosts.append(target)
        channels.append(grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]))
        return channels[-1]

    monkeypatch.setattr(grpc_helpers, "create_channel", create_channel)
    try:
        with fake_vertex_rest.standing_in(monkeypatch, fake):
            yield fake
    finally:
        for channel in channels:
            channel.close()
        server.stop(grace=None).wait()


def server_of(fake: FakeVertex) -> grpc.Server:
    """A server of all services, which has no port yet."""
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
    for service, methods in (_SERVICES | BatchJobs.SERVICES).items():
        handlers = {method: _handler(fake, method, request) for method, request in methods.items()}
        full_name = service if "." in service else f"google.cloud.aiplatform.v1.{service}"
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(full_name, handlers),))
    return server


def _handler(fake: FakeVertex, method: str, request_type: Any) -> grpc.RpcMethodHandler:
    def call(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return fake.answer(method, request)
        except Refusal as refusal:
            context.abort(refusal.code, str(refusal))

    def serialize(response: Any) -> bytes:
        return getattr(type(response), "pb", lambda message: message)(response).SerializeToString()

    read = getattr(request_type, "deserialize", None) or request_type.FromString
    return grpc.unary_unary_rpc_method_handler(call, read, serialize)


def _copy(message: Any) -> Any:
    if not hasattr(type(message), "deserialize"):
        return copy.deepcopy(message)
    return type(message).deserialize(type(message).serialize(message))


def _is_taken(conditions: str, job: Job) -> bool:
    """Whether the filter of a list takes a job: comparisons with = and !=, all of which must hold."""
    values = {
        "pipeline_name": job.pipeline_spec["pipelineInfo"]["name"] if job.pipeline_spec else "",
        "state": job.state.name,
        "display_name": job.display_name,
    }
    for condition in filter(None, conditions.split(" AND ")):
        field, operator, value = re.fullmatch(r'(\w+)(!?=)"([^"]*)"', condition).groups()
        if (values[field] == value) != (operator == "="):
            return False
    return True


def _masked(job: Job, fields: list[str]) -> Job:
    return types.PipelineJob(**{field: getattr(job, field) for field in fields}) if fields else job


def as_json(request: Any) -> dict[str, Any]:
    """A request as its JSON, to compare and to keep."""
    return json_format.MessageToDict(getattr(type(request), "pb", lambda message: message)(request))
