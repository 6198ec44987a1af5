"""When the next cycle begins. One at a time; what happens during one makes another after it."""

import datetime
import enum
import queue
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.watch.schedule import Schedule

# Exit codes of a cycle after which all is well: done, and a model that a gate has refused.
_GOOD = (0, 4)
# Refused data stay as they are until somebody or something brings others; all else may pass by itself.
_NEEDS_OTHER_DATA = 3
LEAST_BACKOFF_S, MOST_BACKOFF_S = 60.0, 3600.0
# While something comes without a pause, the cycle begins all the same: what is still written, it leaves for the next.
MOST_SETTLE_S = 600.0
# A clock that was set, or a machine that slept, is noticed after so long.
_LONGEST_WAIT_S = 60.0


class Event(enum.Enum):
    """What ends a wait."""

    FILES = "files have come"
    STOP = "it is to end"
    BROKEN = "files can no longer be watched"


class Clock(Protocol):
    """Time, and what happens in it."""

    def now(self) -> datetime.datetime:
        """The time, with its zone."""

    def monotonic(self) -> float:
        """Seconds that nobody sets."""

    def next_event(self, timeout_s: float) -> Event | None:
        """Waits for an event, at most so long."""


@dataclass
class RealClock:
    """The machine's; events may be put in from any thread, and from a signal's handler."""

    # Of the queues this is the one that may be put into while it is being put into.
    events: "queue.SimpleQueue[Event]" = field(default_factory=queue.SimpleQueue)

    def now(self) -> datetime.datetime:
        return datetime.datetime.now(datetime.timezone.utc)

    def monotonic(self) -> float:
        return time.monotonic()

    def next_event(self, timeout_s: float) -> Event | None:
        try:
            return self.events.get(timeout=timeout_s)
        except queue.Empty:
            return None


class Watch:
    """Runs cycles until it is told to end."""

    def __init__(
        self,
        cycle: Callable[[], int],
        *,
        clock: Clock,
        settle_s: float,
        say: Callable[[str], None],
        schedule: Schedule | None = None,
    ) -> None:
        """Begins nothing yet.

        Args:
            cycle: runs one, and returns its exit code.
            clock: of the waits.
            settle_s: how long nothing must have come before files are looked at.
            say: tells a person.
            schedule: of the clock; None: cycles begin when files appear.
        """
        self._cycle, self._clock, self._settle_s, self._say = cycle, clock, settle_s, say
        self._schedule = schedule
        self._due: datetime.datetime | None = None
        self._zero: datetime.datetime | None = None
        self._looked_s = 0.0
        self._failures, self._not_before_s = 0, 0.0
        # What came while nobody looked is looked at first.
        self._wanted, self._files_came, self._ends = True, False, False

    def run(self) -> int:
        """Repeats cycles.

        Returns:
            The exit code of the last cycle, if it was broken off by the end; 0 otherwise.

        Raises:
            RuntimeError: files can no longer be watched.
        """
        while self._wait():
            self._wanted = self._files_came = False
            code = self._cycle()
            # An end that was asked for during the cycle is in the queue.
            if self._take(self._clock.next_event(0.0)):
                return code if code not in _GOOD else 0
            self._note(code)
        return 0

    def _note(self, code: int) -> None:
        if code in _GOOD:
            self._failures = 0
            return
        backoff_s = min(LEAST_BACKOFF_S * 2.0**self._failures, MOST_BACKOFF_S)
        self._failures += 1
        self._not_before_s = self._clock.monotonic() + backoff_s
        if code == _NEEDS_OTHER_DATA:
            self._say(f"the images were refused: the next cycle waits for other ones, and {backoff_s:g} s at least")
        else:
            self._wanted = True
            self._say(f"tried again in {backoff_s:g} s")

    def _wait(self) -> bool:
        """Waits until a cycle is due; False: it is to end."""
        # One that has passed during the cycle is still to come.
        if self._schedule and self._due is None:
            self._plan(self._clock.now())
        while not self._ends:
            self._look_at_clock()
            if self._schedule and self._due and self._clock.now() >= self._due:
                self._due, self._wanted = None, True
            left_s = self._not_before_s - self._clock.monotonic() if self._failures else 0.0
            if self._wanted and left_s <= 0:
                if not self._files_came or self._settled():
                    return not self._ends
                continue
            self._take(self._clock.next_event(self._longest(left_s)))
        return False

    def _plan(self, after: datetime.datetime) -> None:
        self._due = self._schedule.after(after)
        self._say(f"the next cycle by the clock: {self._due:%Y-%m-%d %H:%M %Z}")

    def _look_at_clock(self) -> None:
        """Plans anew where the clock was moved back: what was due by a clock that was ahead may be a year away."""
        now_s = self._clock.monotonic()
        # What the clock showed when the time that nobody sets was zero; a machine that slept makes it later.
        zero = self._clock.now() - datetime.timedelta(seconds=now_s)
        if self._due and self._zero and (self._zero - zero).total_seconds() > _LONGEST_WAIT_S:
            self._say("the clock was moved back")
            # Since the last look: what has passed meanwhile, by the clock as it is right, is still to come.
            self._plan(zero + datetime.timedelta(seconds=self._looked_s))
        self._zero, self._looked_s = zero, now_s

    def _longest(self, left_s: float) -> float:
        """How long nothing has to be done, if nothing happens."""
        waits = [_LONGEST_WAIT_S]
        if self._wanted:
            waits.append(left_s)
        if self._due:
            waits.append((self._due - self._clock.now()).total_seconds())
        return max(min(waits), 0.0)

    def _settled(self) -> bool:
        """Waits until nothing has come for a while; False: it is to end."""
        until_s = self._clock.monotonic() + MOST_SETTLE_S
        while self._clock.monotonic() < until_s:
            event = self._clock.next_event(self._settle_s)
            if event is None:
                break
            if self._take(event):
                return False
        return True

    def _take(self, event: Event | None) -> bool:
        """Takes an event and all that are there; True: it is to end."""
        while event is not None:
            if event is Event.BROKEN:
                raise RuntimeError(Event.BROKEN.value)
            if event is Event.STOP:
                self._ends = True
            elif event is Event.FILES:
                self._wanted = self._files_came = True
            event = self._clock.next_event(0.0)
        return self._ends
