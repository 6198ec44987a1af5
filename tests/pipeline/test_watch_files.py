"""Which changes below a source are noticed, with real files."""

import threading
from pathlib import Path

import pytest
from watchfiles import Change

from components.span_ingest.patterns import root_of
from pipeline.watch.files import Files

# How long what has to happen may take on a busy machine; nothing waits for all of it.
PATIENCE_S = 60


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
