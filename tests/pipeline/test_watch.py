"""The cycles of a watch as processes, and the command: signals, the lock, what is refused."""

import os
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner

from pipeline import cli, cli_watch
from pipeline.config import load_config
from pipeline.watch.child import Cycles, handled, sole_use

# How long what has to happen may take on a busy machine; nothing waits for all of it.
PATIENCE_S = 60


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
    before = signal.getsignal(signal.SIGINT)
    assert cli_watch._watch(config, python(program), None, watched=True) == 130
    assert count.read_text() == "xxx"
    said = capsys.readouterr().out
    assert f"watching {source}" in said and "ended with 4" in said and said.endswith("the watch has ended\n")
    assert signal.getsignal(signal.SIGINT) is before


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
    photos = str(tmp_path / "photos")
    given = ["--unlabeled", photos, "--labeled", photos, "--output", str(tmp_path / "run"), *STORE]
    with sole_use(str(tmp_path / "run")):
        done = CliRunner().invoke(cli.main, ["watch", *given])
    assert done.exit_code == 2 and "another watch" in done.stderr
    assert not (tmp_path / "run" / "history").exists()
