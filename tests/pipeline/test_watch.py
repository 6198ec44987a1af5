"""When cycles begin: by the clock, when files appear, after failures; and how a watch ends."""

import datetime
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner
from watchfiles import Change

from components.span_ingest.patterns import root_of
from pipeline import cli, cli_watch
from pipeline.config import load_config
from pipeline.watch.child import Cycles, handled, sole_use
from pipeline.watch.files import Files
from pipeline.watch.loop import LEAST_BACKOFF_S, MOST_BACKOFF_S, MOST_SETTLE_S, Event, Watch
from pipeline.watch.schedule import Schedule

SUNDAY = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.timezone.utc)
FILES, STOP = Event.FILES, Event.STOP
HOUR, DAY = 3600, 24 * 3600
# How long what has to happen may take on a busy machine; nothing waits for all of it.
PATIENCE_S = 60


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


class Seen:
    """What the thread has told."""

    def __init__(self) -> None:
        self._times = threading.Semaphore(0)
        self.broke = threading.Event()

    def came(self) -> None:
        self._times.release()

    def once(self) -> bool:
        return self._times.acquire(timeout=PATIENCE_S)

    def forget(self) -> None:
        while self._times.acquire(blocking=False):
            pass


@pytest.fixture
def watched(tmp_path):
    seen, threads = Seen(), []

    def start(root: Path) -> Seen:
        leave_out = [str(tmp_path / "run")]
        threads.append(Files(str(root), leave_out=leave_out, came=seen.came, broke=seen.broke.set))
        threads[-1].start_watching()
        return seen

    yield start
    for thread in threads:
        thread.end()


def test_file_that_appears_changes_or_is_moved_in_is_noticed(watched, tmp_path):
    source, aside = tmp_path / "source", tmp_path / "aside.png"
    source.mkdir()
    seen = watched(source)
    (source / "a.png").write_bytes(b"a")
    assert seen.once()
    seen.forget()
    with (source / "a.png").open("ab") as file:
        file.write(b"more")
    assert seen.once()
    aside.write_bytes(b"b")
    seen.forget()
    aside.rename(source / "b.png")
    assert seen.once()


def test_folder_that_goes_and_comes_back_is_watched_again(watched, tmp_path):
    source = tmp_path / "drive" / "source"
    source.mkdir(parents=True)
    seen = watched(source)
    source.rmdir()
    source.parent.rmdir()
    source.mkdir(parents=True)
    assert seen.once()  # what is in it now, nobody has seen come
    (source / "new").mkdir()
    assert seen.once()


def test_folder_that_is_not_there_yet_is_waited_for(watched, tmp_path):
    seen = watched(tmp_path / "later")
    (tmp_path / "later").mkdir()
    assert seen.once() and not seen.broke.is_set()


@pytest.mark.parametrize(
    ("change", "path", "counts"),
    [
        (Change.added, "week1.tar", True),
        (Change.modified, "span-1/a.png", True),
        (Change.deleted, "week1.tar", False),
        (Change.added, ".week1.tar.part", False),
        (Change.added, "span-1/.tmp/a.png", False),
        (Change.added, "run/pushed/1/saved_model.pb", False),
        (Change.added, "running.png", True),
    ],
)
def test_what_would_not_be_read_and_what_runs_write_is_of_no_interest(tmp_path, change, path, counts):
    files = Files(str(tmp_path), leave_out=[str(tmp_path / "run")], came=print, broke=print)
    assert files._is_of_interest(change, str(tmp_path / path)) is counts


@pytest.mark.parametrize(
    ("source", "root"),
    [("in", "in"), ("in/", "in/"), ("in/span-{SPAN}", "in"), ("in/{YYYY}/*.tar", "in"), ("in/*.tar", "in")],
)
def test_root_of_a_source_is_the_folder_that_is_watched(tmp_path, monkeypatch, source, root):
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    assert root_of(source) == root
    Path("in/week1.tar").write_bytes(b"")
    assert root_of("in/week1.tar") == "in" and root_of("week1.tar") == "."


def python(program: str) -> list[str]:
    """A cycle; one that nobody ends dies by itself."""
    return [sys.executable, "-S", "-c", f"import os, signal, sys\nsignal.alarm({PATIENCE_S})\n{program}"]


@pytest.fixture
def cycles(tmp_path):
    with sole_use(str(tmp_path / "run")) as lock:
        yield lambda program: Cycles(python(program), lock=lock, say=str)


def test_cycle_gives_its_exit_code_and_stands_apart_from_the_terminal(cycles):
    assert cycles("sys.exit(3 if os.getsid(0) == os.getpid() else 1)").run() == 3
    assert cycles("os.kill(os.getpid(), signal.SIGKILL)").run() == 137


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_asks_to_end_is_handed_on_to_the_cycle(cycles, number):
    """The cycle itself asks, so it is there to be asked."""
    asked = cycles(f"""
signal.signal({number:d}, lambda *_: sys.exit(77))
os.kill(os.getppid(), {number:d})
while True: signal.pause()
""")
    with handled(asked.ask_to_end):
        assert asked.run() == 77


def test_second_request_kills(cycles):
    asked = cycles("""
signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getppid(), signal.SIGTERM))
os.kill(os.getppid(), signal.SIGTERM)
while True: signal.pause()
""")
    with handled(asked.ask_to_end):
        assert asked.run() == 137


def test_request_before_there_is_a_process_reaches_it_all_the_same(cycles):
    asked = cycles("while True: signal.pause()")
    asked.ask_to_end(signal.SIGTERM)
    assert asked.run() == 128 + signal.SIGTERM


def test_output_is_one_watchs_and_also_its_cycles(tmp_path):
    output = str(tmp_path / "run")
    with sole_use(output), pytest.raises(BlockingIOError), sole_use(output):
        pass
    read, write = os.pipe()
    program = f"signal.signal(signal.SIGTERM, signal.SIG_DFL); os.write({write}, b'.'); signal.pause()"
    with sole_use(output) as lock:
        cycle = subprocess.Popen(python(program), pass_fds=(lock, write))
        assert os.read(read, 1) == b"."
    with pytest.raises(BlockingIOError), sole_use(output):
        pass
    cycle.terminate()
    cycle.wait()
    with sole_use(output) as lock:
        # With the descriptor, which is closed to every other process, a cycle of the watch has the lock.
        assert Cycles(python(f"os.fstat({lock}); sys.exit(5)"), lock=lock, say=str).run() == 5


def test_file_that_appears_makes_a_cycle_a_failure_ends_nothing_and_a_signal_does(tmp_path, capsys):
    """Real files, processes and signals; the cycle delivers the file itself, and asks for the end the third time."""
    source, count = tmp_path / "source", tmp_path / "count"
    source.mkdir()
    config = load_config(
        None,
        [
            f"data.unlabeled={source}",
            f"data.labeled={source}",
            f"output={tmp_path / 'run'}",
            f"retrain.store={tmp_path / 'store'}",
            "retrain.settle_s=0.05",
        ],
    )
    program = f"""
with open({str(count)!r}, "a") as file: file.write("x")
times = os.path.getsize({str(count)!r})
if times < 3: open({str(source)!r} + "/week%d.tar" % times, "w").close()
if times == 2: sys.exit(4)
if times == 3:
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
    os.kill(os.getppid(), signal.SIGINT)
    while True: signal.pause()
"""
    assert cli_watch._watch(config, python(program), None, watched=True) == 130
    assert count.read_text() == "xxx"
    said = capsys.readouterr().out
    assert f"watching {source}" in said and "ended with 4" in said and said.endswith("the watch has ended\n")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.fixture
def started(monkeypatch):
    """What would have been watched."""
    calls = []
    monkeypatch.setattr(
        cli_watch,
        "_watch",
        lambda config, command, schedule, watched: calls.append((command, schedule, watched)) or 0,
    )
    return calls


STORE = ["--set", "retrain.store=store"]


@pytest.mark.parametrize(
    ("given", "by_clock", "by_files"),
    [
        ([], False, True),
        (["--cron", "0 3 * * 1"], True, False),
        (["--cron", "0 3 * * 1", "--files", "--timezone", "Europe/Berlin"], True, True),
    ],
)
def test_command_watches_files_unless_only_the_clock_is_asked_for(started, given, by_clock, by_files):
    sources = ["--unlabeled", "a b", "--labeled", "l", "--output", "o"]
    done = CliRunner().invoke(cli.main, ["watch", *sources, *STORE, *given])
    assert done.exit_code == 0, done.output
    [(command, schedule, watched)] = started
    assert command[1:] == [
        "-m", "pipeline", "retrain", "--unlabeled=a b", "--labeled=l", "--output=o", "--set=retrain.store=store",
    ]  # fmt: skip
    assert (schedule is not None, watched) == (by_clock, by_files)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "retrain.store = null"),
        ([*STORE, "--cron", "0 3 * * MON,"], "cron = "),
        ([*STORE, "--cron", "0 3 * * 1", "--timezone", "Mars"], "timezone = 'Mars'"),
        ([*STORE, "--unlabeled", "gs://b/in", "--labeled", "gs://b/l"], "cannot be watched; give --cron"),
        ([*STORE, "--unlabeled", "gs://b/in", "--labeled", "l", "--cron", "* * * * *", "--files"], "without --files"),
        ([*STORE, "--set", "seed=x"], "seed"),
    ],
)
def test_watch_that_cannot_be_is_refused_with_code_2_before_anything_begins(started, given, words):
    done = CliRunner().invoke(cli.main, ["watch", *given])
    assert done.exit_code == 2 and words in done.stderr, done.output
    assert started == []


def test_second_watch_of_an_output_is_refused(tmp_path):
    given = ["--unlabeled", str(tmp_path), "--labeled", str(tmp_path), "--output", str(tmp_path / "run"), *STORE]
    with sole_use(str(tmp_path / "run")):
        done = CliRunner().invoke(cli.main, ["watch", *given])
    assert done.exit_code == 2 and "another watch" in done.stderr
    assert not (tmp_path / "run" / "history").exists()
