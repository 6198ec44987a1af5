"""Vertex AI's runs on loopback: a job that is begun there is executed by the rehearsal, and clients can watch it."""

import json
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fake_vertex import FakeVertex, Job, as_json, end, node

from pipeline.runners.rehearsal.result import Result
from pipeline.runners.rehearsal.run import TaskFailedError, rehearse
from pipeline.runners.rehearsal.scheduling import Observer
from pipeline.runners.rehearsal.specification import RefusedError, Task

_LONGEST_S = 60


class _CancelledError(Exception):
    """Breaks off a rehearsal."""


class Runs(Observer):
    """A job at a time, in a thread; what happens to it is what the next looks at it will see, one thing a look.

    After a cancellation nothing of it begins any more; a container that runs then is not killed, as Vertex AI would.
    """

    def __init__(self, fake: FakeVertex, folder: Path) -> None:
        """From now on what `fake` begins runs, and leaves in `folder` what a rehearsal leaves."""
        self._fake, self._folder = fake, folder
        self._happened: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._is_cancelled = threading.Event()
        fake.begun = self._begin
        fake.cancelled = lambda job: self._is_cancelled.set()

    def join(self) -> None:
        """Until nothing of the job runs any more."""
        self._thread.join(_LONGEST_S)
        assert not self._thread.is_alive()

    def wait(self, _seconds: float) -> None:
        """Until there is something to see, instead of for some seconds."""
        self._happened.get(timeout=_LONGEST_S)

    def started(self, task: Task) -> None:
        self._show(node(task.name, "RUNNING"))

    def ended(self, task: Task, result: Result) -> None:
        self._show(node(task.name, result.state.value, error=result.message))

    def _begin(self, job: Job) -> None:
        self._thread = threading.Thread(target=self._run, args=(as_json(job),), daemon=True)
        self._thread.start()

    def _run(self, job: dict[str, Any]) -> None:
        file = self._folder / "job.json"
        # kfp's schema, which the rehearsal reads, does not have it.
        fast = job["runtimeConfig"].pop("failurePolicy", "").endswith("FAIL_FAST")
        file.write_text(json.dumps(job))
        try:
            policy = "fast" if fast else "slow"
            rehearse(file, self._folder, failure_policy=policy, observer=self, sleep=lambda seconds: None)
        except (RefusedError, TaskFailedError) as error:
            self._show(end("FAILED", str(error)))
        except _CancelledError:
            return
        else:
            self._show(end("SUCCEEDED"))

    def _show(self, step: Callable[[Job], None]) -> None:
        if self._is_cancelled.is_set():
            raise _CancelledError
        self._fake.script(step)
        self._happened.put(None)
