"""When cycles begin: at the start, when files appear, by the clock, after failures; and how the loop ends."""

import datetime

import pytest

from pipeline.watch.loop import LEAST_BACKOFF_S, MOST_BACKOFF_S, MOST_SETTLE_S, Event, Watch
from pipeline.watch.schedule import Schedule

SUNDAY = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.timezone.utc)
FILES, STOP = Event.FILES, Event.STOP
HOUR, DAY = 3600, 24 * 3600


class World:
    """Time that passes only where it is waited for, and what happens in it, at seconds from its beginning."""

    def __init__(self, *events: tuple[float, Event], codes: tuple[int, ...] = (), lasts_s: float = 0) -> None:
        self.passed_s, self.began, self.said = 0.0, [], []
        self.set_forward_s = lambda: 0.0
        self._events, self._codes, self._lasts_s = sorted(events, key=lambda event: event[0]), list(codes), lasts_s

    def now(self) -> datetime.datetime:
        return SUNDAY + datetime.timedelta(seconds=self.passed_s + self.set_forward_s())

    def monotonic(self) -> float:
        return self.passed_s

    def next_event(self, timeout_s: float) -> Event | None:
        assert len(self.began) < 100 and timeout_s >= 0
        if self._events and self._events[0][0] <= self.passed_s + timeout_s:
            moment, event = self._events.pop(0)
            self.passed_s = max(self.passed_s, moment)
            return event
        self.passed_s += timeout_s
        return None

    def cycle(self) -> int:
        self.began.append(self.passed_s)
        self.passed_s += self._lasts_s
        return self._codes.pop(0) if self._codes else 0

    def watch(self, cron: str | None = None, settle_s: float = 2) -> int:
        schedule = Schedule(cron) if cron else None
        return Watch(self.cycle, clock=self, settle_s=settle_s, say=self.said.append, schedule=schedule).run()


def test_what_came_while_nobody_watched_is_looked_at_first():
    world = World((5, STOP))
    assert world.watch() == 0
    assert world.began == [0]


def test_burst_of_files_is_waited_out():
    world = World((10, FILES), (11, FILES), (12.5, FILES), (100, FILES), (200, STOP))
    world.watch()
    assert world.began == [0, 14.5, 102]


def test_files_that_never_rest_do_not_put_the_cycle_off_for_ever():
    world = World(*((float(second), FILES) for second in range(10, 800)), (2000, STOP))
    world.watch()
    assert world.began[1] == 10 + MOST_SETTLE_S


def test_files_that_come_during_a_cycle_make_one_more_after_it():
    world = World((10, FILES), (20, FILES), (30, FILES), (500, STOP), lasts_s=60)
    world.watch()
    assert world.began == [0, 62]


def test_clock_makes_a_cycle_each_time_that_is_scheduled():
    world = World((14 * DAY, STOP))
    world.watch(cron="0 3 * * 1")  # Mondays; the watch begins on a Sunday at noon
    assert world.began == [0, 15 * HOUR, 15 * HOUR + 7 * DAY]


def test_times_that_pass_during_a_cycle_are_made_up_for_once():
    world = World((5 * HOUR, STOP), lasts_s=2.5 * HOUR)
    world.watch(cron="0 * * * *")
    assert world.began == [0, 2.5 * HOUR]


def test_clock_that_is_set_or_has_slept_is_noticed_within_a_minute():
    """Nothing happens but that it is another day from the hundredth second on."""
    world = World((HOUR, STOP))
    world.set_forward_s = lambda: DAY if world.passed_s >= 100 else 0
    world.watch(cron="0 3 * * *")
    assert len(world.began) == 2 and 100 <= world.began[1] <= 160


def test_clock_that_was_a_year_ahead_when_it_is_set_right_is_not_waited_for():
    """From the hundredth second on it is Sunday noon, as it is; the cycle on Monday at three is not lost."""
    world = World((2 * DAY, STOP))
    world.set_forward_s = lambda: 0 if world.passed_s >= 100 else 365 * DAY
    world.watch(cron="0 3 * * 1")
    assert world.began == [0, 15 * HOUR]
    assert "the clock was moved back" in world.said


def test_clock_that_is_moved_back_during_a_long_cycle_is_noticed_after_it():
    """It is Monday half past two, and the clock an hour ahead, until it is set right in a cycle of two hours."""
    world = World((3 * DAY, STOP), lasts_s=2 * HOUR)
    start = 14.5 * HOUR
    world.set_forward_s = lambda: start + (HOUR if world.passed_s < HOUR else 0)
    world.watch(cron="0 3 * * 1,2")
    assert world.began == [0, 2 * HOUR, 24.5 * HOUR]


def test_clock_that_is_moved_back_a_little_makes_no_cycle_twice():
    world = World((DAY, STOP))
    world.set_forward_s = lambda: -30 if world.passed_s >= 15 * HOUR + 1 else 0
    world.watch(cron="0 3 * * *")
    assert len(world.began) == 2


def test_files_and_clock_together():
    world = World((HOUR, FILES), (16 * HOUR, STOP))
    world.watch(cron="0 3 * * *")
    assert world.began == [0, HOUR + 2, 15 * HOUR]


@pytest.mark.parametrize("code", [1, 2, 137])
def test_what_may_pass_by_itself_is_tried_again_later_and_later(code):
    world = World((3 * DAY, STOP), codes=(code,) * 9)
    assert world.watch() == 0
    waits = [after - before for before, after in zip(world.began, world.began[1:], strict=False)]
    assert waits == [min(LEAST_BACKOFF_S * 2**tries, MOST_BACKOFF_S) for tries in range(9)]
    assert "tried again in 60 s" in world.said and "tried again in 3600 s" in world.said


def test_success_and_a_refused_model_begin_the_count_of_failures_anew():
    world = World((100, FILES), (300, FILES), (1000, STOP), codes=(1, 4, 1, 0))
    world.watch()
    assert world.began == [0, 60, 102, 162, 302]


def test_refused_images_wait_for_others_and_for_a_while():
    world = World((10, FILES), (5000, FILES), (9000, STOP), codes=(3, 3, 0))
    world.watch()
    assert world.began == [0, 62, 5002]
    assert "the images were refused: the next cycle waits for other ones, and 60 s at least" in world.said


def test_end_that_is_asked_for_begins_nothing_more():
    for moment in (0.5, 11, 13):  # before anything, while files settle, during a cycle
        world = World((10, FILES), (moment, STOP), (20, FILES), lasts_s=0.25, codes=(0, 0))
        assert world.watch() == 0
        assert len(world.began) == (2 if moment == 13 else 1)


def test_cycle_that_the_end_broke_off_gives_its_exit_code():
    world = World((5, STOP), codes=(130,), lasts_s=10)
    assert world.watch() == 130


def test_files_that_can_no_longer_be_watched_end_the_watch_with_an_error():
    with pytest.raises(RuntimeError, match="no longer be watched"):
        World((10, Event.BROKEN)).watch()


@pytest.mark.parametrize(
    ("cron", "timezone", "expected"),
    [
        ("0 3 * * 1", "UTC", "2026-03-02T03:00:00+00:00"),
        ("0 3 * * 7", "UTC", "2026-03-08T03:00:00+00:00"),
        ("0 3 * * 0", "UTC", "2026-03-08T03:00:00+00:00"),
        ("0 3 * * 1", "Asia/Tokyo", "2026-03-02T03:00:00+09:00"),
        ("30 2 29 3 *", "Europe/Berlin", "2026-03-29T03:00:00+02:00"),  # when there is no half past two
        ("*/15 * * * *", "UTC", "2026-03-01T12:15:00+00:00"),
    ],
)
def test_schedule_is_what_cron_makes_of_it(cron, timezone, expected):
    assert Schedule(cron, timezone).after(SUNDAY) == datetime.datetime.fromisoformat(expected)


@pytest.mark.parametrize(
    ("cron", "timezone", "words"),
    [
        ("0 3 * *", "UTC", "five fields"),
        ("0 0 3 * * 1", "UTC", "five fields"),
        ("61 3 * * 1", "UTC", "Bad minute"),
        ("0 3 31 2 *", "UTC", "five fields|never"),
        ("0 3 * * 1", "Europe/Nowhere", "timezone"),
        ("0 3 * * 1", "../etc", "timezone"),
    ],
)
def test_what_is_no_schedule_is_refused(cron, timezone, words):
    with pytest.raises(ValueError, match=words):
        Schedule(cron, timezone)
