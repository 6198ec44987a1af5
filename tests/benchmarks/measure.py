"""What both sides' processes measure by: clocks, memory, threads. Needs the standard library alone."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

MIB = 2**20
_CLEAR_PEAK = "5"  # proc(5), clear_refs: the high-water mark of the memory starts anew

Figures = dict[str, Any]
Task = Callable[..., Figures]


def seconds_of(action: Callable[[], object], *, repeats: int) -> float:
    """Median seconds of an action that waits for its own result, after a first call, which may compile."""
    action()
    return median(_timed(action) for _ in range(repeats))


def best_seconds_of(action: Callable[[], object], *, repeats: int) -> float:
    """The least of them: for what a machine can do, not for what it does beside other work."""
    action()
    return min(_timed(action) for _ in range(repeats))


def _timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def seconds_and_mib(action: Callable[[], object]) -> Figures:
    """Seconds of the second call, since the first may compile, and what both add to the peak of the memory."""
    peak = PeakMemory()
    action()
    return {"seconds": _timed(action), "mib": peak.added_mib()}


class PeakMemory:
    """The most memory that the process held since this was made, over what it held then: VmHWM − VmRSS.

    To be made before the first call of what is measured: TensorFlow keeps for later calls what it once took.
    """

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text(_CLEAR_PEAK)
        self._before = _status_kib("VmRSS")

    def added_mib(self) -> float:
        """In MiB, up to now."""
        return (_status_kib("VmHWM") - self._before) / 1024


def _status_kib(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])


def answer(tasks: dict[str, Task]) -> None:
    """The main function of a side: `{"task": name, ...}` in, figures as the last line out."""
    settings = json.loads(sys.argv[1])
    figures = tasks[settings.pop("task")](**settings)
    sys.stdout.write(f"\n{json.dumps(figures)}\n")
