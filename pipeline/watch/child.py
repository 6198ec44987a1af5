"""A cycle as a process of its own: what TensorFlow holds is given back, and what it dies of ends no watch."""

import contextlib
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

_ENDS = (signal.SIGINT, signal.SIGTERM)
_LOCK_FILE = ".watch.lock"


class Cycles:
    """Starts cycles, and hands on to the one that runs what asks this process to end."""

    def __init__(self, command: Sequence[str], *, lock: int, say: Callable[[str], None]) -> None:
        """Begins nothing yet.

        Args:
            command: of a cycle.
            lock: descriptor that each inherits, see `sole_use`.
            say: tells a person.
        """
        self._command, self._lock, self._say = list(command), lock, say
        self._process: subprocess.Popen[bytes] | None = None
        self._asked: list[int] = []

    def run(self) -> int:
        """Runs one.

        Returns:
            Its exit code; 128 and the number of a signal that ended it, as shells have it.
        """
        started = time.monotonic()
        # In a session of its own: a terminal's Ctrl-C would reach it twice, from the terminal and from here.
        process = subprocess.Popen(self._command, start_new_session=True, pass_fds=(self._lock,))
        with _held_back():
            self._process = process
            # It may have been asked for before there was anybody to hand it on to.
            for number in self._asked[:1]:
                process.send_signal(number)
        code = process.wait()
        self._process = None
        code = code if code >= 0 else 128 - code
        self._say(f"the cycle took {time.monotonic() - started:.0f} s and ended with {code}")
        return code

    def ask_to_end(self, number: int, _frame: FrameType | None = None) -> None:
        """Handler of signals: the first one is handed on, and the second one kills."""
        self._asked.append(number)
        if self._process is not None:
            self._process.send_signal(number if len(self._asked) == 1 else signal.SIGKILL)


@contextlib.contextmanager
def handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Has a handler called for what asks a process to end."""
    before = {number: signal.signal(number, handler) for number in _ENDS}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


@contextlib.contextmanager
def sole_use(output: str) -> Iterator[int]:
    """Takes an output folder for one watch; its cycles inherit the descriptor, and with it the lock.

    Raises:
        BlockingIOError: another watch, or a cycle that outlived its watch, has it.
    """
    Path(output).mkdir(parents=True, exist_ok=True)
    lock = os.open(Path(output, _LOCK_FILE), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield lock
    finally:
        os.close(lock)


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDS)
