"""Processes of both sides: each run starts a new one, and the sides take turns, so that a busy machine slows both."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.measure import Figures
from benchmarks.sections import Case, Run

ROOT = Path(__file__).resolve().parents[2]
THEIR_PYTHON = ROOT / ".venv-bench" / "bin" / "python"
NOT_INSTALLED = "lightly is not installed; 'make bench' installs it (5 GB)"
_PYTHONS = {"ours": Path(sys.executable), "theirs": THEIR_PYTHON}
# As the command line sets them for TensorFlow; PyTorch does not look at them.
_SWITCHES = {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "1"}
_SHOWN_OF_ERROR = 3000

Start = Callable[[Run, int], Figures]


class SkippedError(Exception):
    """A run cannot be made here; the message says why."""


def in_new_process(run: Run, cores: int) -> Figures:
    """Starts a run on the first `cores` cores of this process, so that its libraries start as many threads.

    Raises:
        SkippedError: there is no environment for it.
        RuntimeError: it failed.
    """
    python = _PYTHONS[run.side]
    if not python.exists():
        raise SkippedError(NOT_INSTALLED)
    kept = sorted(os.sched_getaffinity(0))[:cores]
    done = subprocess.run(
        [str(python), "-m", f"benchmarks.{run.side}", json.dumps({"task": run.task, **run.settings})],
        cwd=ROOT,
        env=_SWITCHES | os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
        # No thread of this process is inside of a lock when it forks: there is only one.
        preexec_fn=lambda: os.sched_setaffinity(0, kept),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{run.name} ended with code {done.returncode}:\n{done.stderr[-_SHOWN_OF_ERROR:]}")
    return json.loads(done.stdout.splitlines()[-1])


def take_turns(case: Case, *, rounds: int, start: Start = in_new_process) -> dict[str, list[Figures] | str]:
    """The figures of each run in each round, or why it was skipped; every other round goes backwards."""
    found: dict[str, list[Figures] | str] = {run.name: [] for run in case.runs}
    for number in range(rounds):
        for run in _in_turn(case.runs, number):
            if isinstance(found[run.name], str):
                continue
            try:
                found[run.name].append(start(run, case.cores))
            except SkippedError as reason:
                found[run.name] = str(reason)
    return found


def _in_turn(runs: Sequence[Run], number: int) -> list[Run]:
    return list(reversed(runs)) if number % 2 else list(runs)
