"""One task from its inputs to its outputs: the container's commands as processes, retries, the cache."""

import contextlib
import datetime
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from pipeline.runners.rehearsal import account, exchange, job_service, placeholders
from pipeline.runners.rehearsal.cache import Cache, fingerprint
from pipeline.runners.rehearsal.conditions import Condition
from pipeline.runners.rehearsal.exchange import Made
from pipeline.runners.rehearsal.images import Image, Images, is_vertex_trainer
from pipeline.runners.rehearsal.result import Result, State
from pipeline.runners.rehearsal.specification import FinalStatus, FromTask, Job, Task, constant_value

_LAST_LINES = 12
_IMPORTED_NAME_LENGTH = 32


class TaskError(RuntimeError):
    """An execution failed; the message says how."""


class Execution:
    """Executes tasks of one job; several threads may do so at once."""

    def __init__(
        self,
        job: Job,
        folder: Path,
        *,
        images: Images,
        sleep: Callable[[float], object] | None = None,
        kept_open: Sequence[int] = (),
    ) -> None:
        """Prepares the folders.

        Args:
            job: validated.
            folder: of logs and cache.
            images: environments of the containers.
            sleep: waits between retries; None: in real time, until `stop`.
            kept_open: file descriptors that the processes inherit.
        """
        self._job, self._images, self._kept_open = job, images, tuple(kept_open)
        self._logs, self._cache = folder / "logs", Cache(folder / "cache")
        self._logs.mkdir(parents=True, exist_ok=True)
        self._run = f"{time.strftime('%Y%m%d%H%M%S')}-{uuid.uuid4().hex[:8]}"
        self._resource_name = account.RESOURCE_NAME.format(self._run)
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._directories: dict[str, Path] = {}
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._sleep = sleep or self._stopped.wait

    def log(self, task: str) -> Path:
        """File of all that a task writes."""
        return self._logs / f"{task}.log"

    def run(self, task: Task, results: Mapping[str, Result]) -> Result:
        """Executes a task whose predecessors have ended; what fails is told by the result."""
        began, started = datetime.datetime.now(datetime.timezone.utc), time.monotonic()
        try:
            state, made = self._run_task(task, results)
            message = ""
        except (TaskError, ValueError, OSError) as error:
            state, made, message = State.FAILED, Made(), str(error)
        left = self._directories.get(task.name) if state is State.FAILED else None
        return Result(state, made, time.monotonic() - started, message, began, left)

    def stop(self) -> None:
        """Ends all processes, with those that they have started; none is started any more."""
        with self._lock:
            self._stopped.set()
            for process in self._processes:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    def _run_task(self, task: Task, results: Mapping[str, Result]) -> tuple[State, Made]:
        artifacts = {name: results[source.task].made.artifacts[source.key] for name, source in task.artifacts.items()}
        if task.condition and not Condition(task.condition).holds({name: [one] for name, one in artifacts.items()}):
            return State.NOT_TRIGGERED, Made()
        parameters = {name: self._value(task, value, results) for name, value in task.parameters.items()}
        if task.executor.HasField("importer"):
            return State.SUCCEEDED, _import(task, parameters)
        self.log(task.name).write_bytes(b"")
        failures = 0
        while True:
            try:
                return self._attempt(task, parameters, artifacts)
            except (TaskError, ValueError) as error:
                failures += 1
                if failures > task.retry.times or self._stopped.is_set():
                    raise
                wait_s = task.retry.wait_s(failures)
                self._write(task, f"{error}\ntry {failures + 1} of {task.retry.times + 1} follows in {wait_s:g} s\n")
                self._sleep(wait_s)

    def _value(self, task: Task, value: Any, results: Mapping[str, Result]) -> Any:
        if isinstance(value, FromTask):
            return results[value.task].made.parameters[value.key]
        if isinstance(value, FinalStatus):
            told = {name: results[name] for name in value.tasks}
            account.write_job(Path(self._job.root, self._run), self._resource_name, told)
            return json.dumps(account.final_status(self._job.name, self._resource_name, value.dag, told))
        if isinstance(value, str):
            about = {"job_name": self._run, "job_resource_name": self._resource_name, "task_name": task.name}
            return placeholders.fill_value(value, {**about, "root": self._job.root})
        return value

    def _attempt(
        self, task: Task, parameters: Mapping[str, Any], artifacts: Mapping[str, dict[str, Any]]
    ) -> tuple[State, Made]:
        """One execution in a new directory, so that what a failed one has left is never met again."""
        container = task.executor.container
        directory = Path(self._job.root, self._run, f"{task.name}_{uuid.uuid4().hex[:12]}")
        self._directories[task.name] = directory
        told = exchange.executor_input(task, parameters, artifacts, directory)
        driver = container.lifecycle.pre_cache_check
        if driver.command:
            self._start(task, [*driver.command, *driver.args], told)
            told = exchange.with_answer(told)
        name = fingerprint(task, told["inputs"]["parameterValues"], artifacts)
        if task.cached and (earlier := self._cache.find(name)):
            shutil.rmtree(directory)
            return State.CACHED, earlier
        arguments = list(container.args)
        self._start(task, [*self._command(arguments, list(container.command)), *arguments], told)
        made = exchange.read_made(told)
        self._cache.keep(name, made)
        return State.SUCCEEDED, made

    def _command(self, arguments: list[str], command: list[str]) -> list[str]:
        """The container's own command; in front of Vertex AI's Trainer the service that runs its CustomJob here."""
        if not is_vertex_trainer(arguments):
            return command
        images = {"": self._images.default, **self._images.by_name}
        table = {
            name: {"path": image.path, "workdir": str(image.workdir), "environment": dict(image.environment)}
            for name, image in images.items()
        }
        return [
            "python",
            "-c",
            Path(job_service.__file__).read_text(encoding="utf-8"),
            json.dumps(table),
            command[-1],
        ]

    def _start(self, task: Task, command: Sequence[str], told: Mapping[str, Any]) -> None:
        container = task.executor.container
        image = self._images.find(container.image)
        filled = [placeholders.fill(argument, told) for argument in command]
        with tempfile.TemporaryDirectory(prefix="rehearsal-") as scratch, self.log(task.name).open("ab") as log:
            variables = {**environment(image, scratch), **{entry.name: entry.value for entry in container.env}}
            with self._lock:
                if self._stopped.is_set():
                    raise TaskError("stopped before it started")
                process = subprocess.Popen(
                    filled,
                    cwd=image.workdir,
                    env=variables,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=self._kept_open,
                    start_new_session=True,
                )
                self._processes.add(process)
            code = process.wait()
            with self._lock:
                self._processes.remove(process)
        if code != 0:
            raise TaskError(self._failure(task, code))

    def _failure(self, task: Task, code: int) -> str:
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        lines = [line for line in self.log(task.name).read_text(errors="replace").splitlines() if line.strip()]
        return "\n".join([f"its container {how}; its last lines:", *lines[-_LAST_LINES:]])

    def _write(self, task: Task, text: str) -> None:
        with self.log(task.name).open("a", encoding="utf-8") as log:
            log.write(text)


def environment(image: Image, scratch: str) -> dict[str, str]:
    """All variables that a container finds besides its own; nothing of this process comes through."""
    return {
        "PATH": image.path,
        "HOME": scratch,
        "TMPDIR": scratch,
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",  # a log is whole also when its container is killed
        **image.environment,
    }


def _import(task: Task, parameters: Mapping[str, Any]) -> Made:
    importer = task.executor.importer
    at_run_time = importer.artifact_uri.WhichOneof("value") == "runtime_parameter"
    uri = str(
        parameters[importer.artifact_uri.runtime_parameter]
        if at_run_time
        else constant_value(importer.artifact_uri.constant)
    )
    if not os.path.exists(uri):
        raise TaskError(f"it imports {uri}, which there isn't")
    # The same import has the same name, unless it is to count as new; what reads from it is cached by that.
    name = "" if importer.reimport else fingerprint(task, {"uri": uri}, {})[:_IMPORTED_NAME_LENGTH]
    artifact = exchange.runtime_artifact(uri, importer.type_schema, importer.metadata, name=name)
    [key] = task.interface.output_definitions.artifacts
    artifact["type"] = json_format.MessageToDict(task.interface.output_definitions.artifacts[key].artifact_type)
    return Made({key: artifact})
