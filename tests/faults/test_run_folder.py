"""A folder that somebody else uses, or whose metadata is damaged: said at once, and nothing is begun."""

import os
import signal
import sqlite3
import subprocess
import sys

import pytest

from pipeline.runners.run_folder import RunFolderError, check_metadata, only_run_into

_HOLD = (
    "import sys, pathlib\n"
    "from pipeline.runners.run_folder import only_run_into\n"
    "with only_run_into(pathlib.Path(sys.argv[1])):\n"
    "    print('in', flush=True)\n"
    "    sys.stdin.read()\n"
)


def test_second_run_into_a_folder_is_refused_until_the_first_ends_however_it_ends(tmp_path):
    first = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout.readline() == "in\n"
    refused = pytest.raises(RunFolderError, match=f"another run, process {first.pid}, is writing there; wait")
    with refused, only_run_into(tmp_path):
        raise AssertionError("let in")
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    with only_run_into(tmp_path):
        assert (tmp_path / ".lock").read_text() == f"{os.getpid()}\n"
    with only_run_into(tmp_path):
        pass


@pytest.fixture
def metadata(tmp_path):
    path = tmp_path / "metadata.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.executemany("INSERT INTO t VALUES (?)", [("word" * 100,)] * 1000)
    connection.close()
    return path


def test_metadata_that_is_whole_or_not_there_may_be_used(metadata, tmp_path):
    check_metadata(metadata)
    check_metadata(tmp_path / "none.sqlite")
    assert not (tmp_path / "none.sqlite").exists()


@pytest.mark.parametrize("kind", ["IMMEDIATE", "EXCLUSIVE"])
def test_metadata_that_another_program_keeps_locked_is_not_waited_for_in_silence(metadata, kind):
    holder = sqlite3.connect(metadata, isolation_level=None)
    holder.execute(f"BEGIN {kind}")
    with pytest.raises(RunFolderError, match=r"database is locked\): close what else has it open"):
        check_metadata(metadata, patience_s=0.01)
    holder.execute("ROLLBACK")
    check_metadata(metadata)
    holder.close()


@pytest.mark.parametrize("damage", ["not SQLite", "pages overwritten", "cut short"])
def test_damaged_metadata_is_named_with_what_to_do(metadata, damage):
    content = bytearray(metadata.read_bytes())
    if damage == "not SQLite":
        content[:100] = b"x" * 100
    elif damage == "pages overwritten":
        content[4096:20_000] = b"\xff" * (20_000 - 4096)
    else:
        del content[len(content) // 2 :]
    metadata.write_bytes(content)
    with pytest.raises(RunFolderError, match=r"is damaged \(.*move it away"):
        check_metadata(metadata)
