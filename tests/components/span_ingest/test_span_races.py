"""Two runs at once, and runs that are killed: a span is whole or not there, and every image is kept once."""

import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import forkserver
from pathlib import Path

import pytest
import span_fixtures as fixtures
from span_fixtures import png, read_here, run, write_files

from components.image_example_gen import scratch
from components.span_ingest import folder as folders
from components.span_ingest.store import Counts, SpanStore

_TIMEOUT_S = 60
_ROUNDS = 20
_IMPORTED_IN = os.getpid()


@pytest.fixture(scope="module")
def processes():
    """Processes that have imported everything, and nothing of this one's threads."""
    context = multiprocessing.get_context("forkserver")
    forkserver._forkserver._stop()  # there is one in a process, and other tests' has imported other modules
    context.set_forkserver_preload([__name__])
    with pytest.MonkeyPatch.context() as patched:
        # The server takes this one's path from nowhere else, and would import everything in each process.
        patched.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        first = context.Process(target=_is_ready)
        first.start()
        first.join(_TIMEOUT_S)
        assert first.exitcode == 0
    yield context
    forkserver._forkserver._stop()


def _is_ready() -> None:
    """Ends well where the server has imported this module by its own name."""
    os._exit(os.getpid() == _IMPORTED_IN)


@pytest.fixture
def source(tmp_path):
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


@pytest.fixture
def store(tmp_path):
    return SpanStore(str(tmp_path / "store"))


def test_two_runs_that_ingest_the_same_make_one_span(source, store):
    write_files(source, {f"{seed}.png": png(seed) for seed in range(4)})
    read = fixtures.meet_after_reading(2)
    with ThreadPoolExecutor(2) as pool:
        cycles = [run_.result() for run_ in [pool.submit(run, store, source, read) for _ in range(2)]]
    assert sorted(cycle.made is None for cycle in cycles) == [False, True]
    loser = next(cycle for cycle in cycles if cycle.made is None)
    assert any("was first" in note for note in loser.notes) and loser.delivery.is_empty
    assert [span.counts for span in store.spans()] == [Counts(4, 4, 0, 0)]
    assert {name.split("/")[2] for name in fixtures.files_of(store) if name.count("/") == 3} == {
        store.spans()[0].attempt
    }


def test_loser_of_a_race_goes_on_with_the_next_number_and_keeps_nothing_twice(source, store):
    write_files(source, {"a.png": png(1)})
    barrier = threading.Barrier(2, timeout=30)
    winner_is_done = threading.Event()

    def win():
        def read(*arguments):
            part = read_here(*arguments)
            barrier.wait()
            return part

        made = run(store, source, read).made
        winner_is_done.set()
        return made

    def lose():
        def read(*arguments):
            part = read_here(*arguments)
            if not winner_is_done.is_set():
                barrier.wait()
                write_files(source, {"b.png": png(2), "copy of a.png": png(1)})
                assert winner_is_done.wait(30)
            return part

        return run(store, source, read).made

    with ThreadPoolExecutor(2) as pool:
        won, lost = (run_.result() for run_ in [pool.submit(win), pool.submit(lose)])
    assert (won.number, won.counts) == (1, Counts(1, 1, 0, 0))
    assert (lost.number, lost.counts) == (2, Counts(2, 1, 1, 0))
    assert len({sha256 for span in fixtures.hashes(store) for sha256 in span}) == 2


def _leave(result: object, where: Path) -> None:
    """Ends a process with its result in a file, and without the threads of libraries that may not outlive a fork."""
    where.write_text(json.dumps(result))
    os._exit(0)


def _together(processes, target, *arguments: tuple, folder: Path) -> list:
    """Runs a function in as many processes as there are arguments, all at once; returns their results."""
    start, results = processes.Barrier(len(arguments)), [folder / f"result{n}" for n in range(len(arguments))]
    rivals = [
        processes.Process(target=target, args=(*given, start, result))
        for given, result in zip(arguments, results, strict=True)
    ]
    for rival in rivals:
        rival.start()
    for rival in rivals:
        rival.join(_TIMEOUT_S)
    assert [rival.exitcode for rival in rivals] == [0] * len(rivals)
    return [json.loads(result.read_text()) for result in results]


def _create(path: str, content: bytes, start, result: Path) -> None:
    folder = folders.open_folder(path)
    start.wait(_TIMEOUT_S)
    _leave([folder.create(f"file{round_}", content) for round_ in range(_ROUNDS)], result)


def test_of_rival_processes_one_creates_a_file_and_its_content_stays(processes, tmp_path):
    contents = [bytes([letter]) * 1000 for letter in b"abc"]
    (tmp_path / "folder").mkdir()
    given = [(str(tmp_path / "folder"), content) for content in contents]
    created = _together(processes, _create, *given, folder=tmp_path)
    for round_ in range(_ROUNDS):
        [winner] = [content for content, made in zip(contents, created, strict=True) if made[round_]]
        assert (tmp_path / "folder" / f"file{round_}").read_bytes() == winner
    assert len(list((tmp_path / "folder").iterdir())) == _ROUNDS


def _run_in_process(store: str, source: str, start, result: Path) -> None:
    start.wait(_TIMEOUT_S)
    cycle = run(SpanStore(store), source)
    _leave(cycle.made and cycle.made.number, result)


def test_rival_processes_over_growing_sources_lose_nothing(processes, source, store, tmp_path):
    """Whoever wins: each content is in exactly one span, the numbers are in order, and nothing else is left."""
    for delivery in range(3):
        write_files(source, {f"{delivery}/{seed}.png": png(10 * delivery + seed) for seed in range(5)})
        given = [(store.folder.path, str(source))] * 2
        made = _together(processes, _run_in_process, *given, folder=tmp_path)
        assert sorted(made, key=str) == [delivery + 1, None]
    kept = fixtures.hashes(store)
    assert [len(span) for span in kept] == [5, 5, 5]
    assert len({sha256 for span in kept for sha256 in span}) == 15
    assert run(store, source).delivery.is_empty


def _die_before_write(number: int, store: str, source: str, result: Path) -> None:
    """One cycle in which the process is killed before its n-th write, of whatever kind."""
    writes = 0

    def deadly(write):
        def wrapped(*arguments, **keywords):
            nonlocal writes
            writes += 1
            if writes == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return write(*arguments, **keywords)

        return wrapped

    scratch.leave, scratch.write_atomically = deadly(scratch.leave), deadly(scratch.write_atomically)
    for name in ("link", "replace", "fsync"):
        setattr(os, name, deadly(getattr(os, name)))
    shutil.rmtree = deadly(shutil.rmtree)
    run(SpanStore(store), source)
    _leave("survived", result)


def test_killed_between_any_two_writes_the_next_run_ends_in_the_same_spans(processes, tmp_path):
    source = tmp_path / "source"
    first = {"a.png": png(1), "b.png": png(2)}
    second = {"c.png": png(3), "copy.png": png(1), "bad.png": b""}
    undisturbed = SpanStore(str(tmp_path / "undisturbed"))
    for delivery in (first, second):
        write_files(source, delivery)
        run(undisturbed, source)
    expected = fixtures.contents(undisturbed)
    kills, whole, result = 0, 0, tmp_path / "result"
    while not result.exists():
        kills += 1
        shutil.rmtree(source)
        store = SpanStore(str(tmp_path / f"store{kills}"))
        write_files(source, first)
        run(store, source)
        write_files(source, second)
        arguments = (kills, store.folder.path, str(source), result)
        process = processes.Process(target=_die_before_write, args=arguments)
        process.start()
        process.join(_TIMEOUT_S)
        assert process.exitcode == (0 if result.exists() else -signal.SIGKILL)
        # At every moment: the first span as it was, and the second whole or not there.
        assert fixtures.contents(store) in (expected[:1], expected)
        whole += len(store.spans()) == 2
        run(store, source)
        assert fixtures.contents(store) == expected, kills
        write_files(source, {"d.png": png(4)})
        run(store, source)
        left = [name for name in fixtures.files_of(store) if ".incoming-" not in name]
        assert len({Path(name).parts[:3] for name in left if name.count("/") == 3}) == 3
        assert not any("/work/" in name for name in left)
    # It was killed before the marker and after it.
    assert kills > 15 and 1 < whole < kills


def test_what_killed_writes_left_is_removed_a_day_later(source, store):
    write_files(source, {"a.png": png(1)})
    run(store, source)
    for name, age_s in ((".incoming-old", 90_000), (".incoming-new", 60)):
        path = Path(store.uri(name))
        path.write_bytes(b"half")
        now_s = path.stat().st_mtime
        os.utime(path, (now_s - age_s, now_s - age_s))
    write_files(source, {"b.png": png(2)})
    run(store, source)
    assert {name for name in fixtures.files_of(store) if "incoming" in name} == {".incoming-new"}
