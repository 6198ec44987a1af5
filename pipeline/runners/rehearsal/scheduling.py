"""Which task runs when: all that are ready, so many at once; what depends on a failed one doesn't."""

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Literal, TypeAlias

from pipeline.runners.rehearsal.result import Result, State
from pipeline.runners.rehearsal.specification import Task

FailurePolicy: TypeAlias = Literal["slow", "fast"]
Execute = Callable[[Task, Mapping[str, Result]], Result]


class Observer:
    """Told of a rehearsal as it goes; this one keeps still."""

    def waits(self) -> None:
        """Processes of an earlier rehearsal in the same folder are still there."""

    def planned(self, tasks: Mapping[str, Task]) -> None:
        """All tasks, before the first one starts."""

    def started(self, task: Task) -> None:
        """A task has started."""

    def ended(self, task: Task, result: Result) -> None:
        """A task has ended, or will not start."""


def run_tasks(
    tasks: Mapping[str, Task],
    execute: Execute,
    *,
    parallel: int,
    observer: Observer,
    stop: Callable[[], None],
    failure_policy: FailurePolicy = "slow",
) -> dict[str, Result]:
    """Runs tasks in the order of their dependencies.

    As on Vertex AI, a task with the trigger strategy ALL_UPSTREAM_TASKS_COMPLETED runs whatever happened.

    Args:
        tasks: by name, without cycles.
        execute: runs one, in a thread; must not raise.
        parallel: how many at most at once.
        observer: told of each task, in the caller's thread.
        stop: called when the run is broken off, to end what `execute` has started.
        failure_policy: slow: a failure holds back only what depends on it; fast: all that has not started.

    Returns:
        A result of every task.
    """
    results: dict[str, Result] = {}
    running: dict[Future[Result], Task] = {}
    waiting = dict(tasks)
    with ThreadPoolExecutor(parallel) as pool:
        try:
            while waiting or running:
                for task in [one for one in waiting.values() if one.after <= results.keys()]:
                    held_back = _held_back(task, results, failure_policy)
                    if held_back is not None:
                        results[waiting.pop(task.name).name] = held_back
                        observer.ended(task, held_back)
                    elif len(running) < parallel:
                        observer.started(waiting.pop(task.name))
                        running[pool.submit(execute, task, dict(results))] = task
                ended, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    task = running.pop(future)
                    results[task.name] = future.result()
                    observer.ended(task, results[task.name])
        except BaseException:
            stop()
            raise
    return results


def _held_back(task: Task, results: Mapping[str, Result], failure_policy: FailurePolicy) -> Result | None:
    """The result of a task that cannot run, None for one that can."""
    if task.runs_always:
        return None
    before = {results[name].state for name in task.after}
    decisive = {result.state for result in results.values()} if failure_policy == "fast" else before
    if decisive & {State.FAILED, State.NOT_STARTED}:
        return Result(State.NOT_STARTED)
    return Result(State.NOT_TRIGGERED) if State.NOT_TRIGGERED in before else None
