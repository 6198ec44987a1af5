"""A rehearsal from the job's JSON to the results of its tasks."""

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.runners.rehearsal.buckets import local_buckets
from pipeline.runners.rehearsal.execution import Execution
from pipeline.runners.rehearsal.images import Images, check_images
from pipeline.runners.rehearsal.result import Result, State
from pipeline.runners.rehearsal.scheduling import FailurePolicy, Observer, run_tasks
from pipeline.runners.rehearsal.specification import read_job
from pipeline.runners.rehearsal.validation import check_machines, validate

BUCKETS = "buckets"


class TaskFailedError(RuntimeError):
    """Tasks failed: the first one's name, its last words and its log."""

    def __init__(self, node: str, message: str, log: Path) -> None:
        super().__init__(message)
        self.node, self.log = node, log


@dataclass(frozen=True)
class Outcome:
    """Results by task, in the order in which they ended."""

    results: Mapping[str, Result]


def rehearse(
    job: Path,
    folder: Path,
    *,
    parallel: int = 2,
    images: Images | None = None,
    failure_policy: FailurePolicy = "slow",
    observer: Observer | None = None,
    sleep: Callable[[float], object] | None = None,
) -> Outcome:
    """Executes a compiled PipelineJob on this machine.

    Args:
        job: its JSON file, as `KubeflowV2DagRunner` writes it.
        folder: for all that it leaves: `buckets/` stands for gs://, `logs/` has a file for each task, `cache/` lets
            the next rehearsal into the same folder go on from here.
        parallel: tasks at once.
        images: environments that stand for the containers' images; None: this one for all.
        failure_policy: fast: after a failed task only the exit handler begins; slow: all that do not need it.
        observer: told of all that happens; None: nobody.
        sleep: waits between retries; None: in real time.

    Returns:
        The results, none of them failed.

    Raises:
        RefusedError: the job would not run; nothing was started.
        TaskFailedError: a task failed; with the policy slow, what didn't depend on it has run.
    """
    folder = folder.resolve()
    specified = read_job(local_buckets(json.loads(job.read_text(encoding="utf-8")), folder / BUCKETS))
    validate(specified)
    check_machines(specified)
    images, observer = images or Images(), observer or Observer()
    check_images(specified, images)
    with _sole_use(folder, observer) as lock:
        observer.planned(specified.tasks)
        execution = Execution(specified, folder, images=images, sleep=sleep, kept_open=(lock,))
        results = run_tasks(
            specified.tasks,
            execution.run,
            parallel=parallel,
            observer=observer,
            stop=execution.stop,
            failure_policy=failure_policy,
        )
    for name, result in results.items():
        if result.state is State.FAILED:
            raise TaskFailedError(name, result.message, execution.log(name))
    return Outcome(results)


@contextlib.contextmanager
def _sole_use(folder: Path, observer: Observer) -> Iterator[int]:
    """Waits until no process of an earlier rehearsal in this folder is left, even if that one was killed itself.

    Every container inherits the descriptor, and with it the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            observer.waits()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    finally:
        os.close(lock)
