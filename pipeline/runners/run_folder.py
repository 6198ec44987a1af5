"""A run's folder before it is run into: nobody else's run is in it, and its metadata can be read and written."""

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

_LOCK_FILE = ".lock"
# What a program that reads along may take; ML Metadata would wait for many minutes, and say nothing.
_PATIENCE_S = 10.0
_SHOWN_FAULTS = 2


class RunFolderError(RuntimeError):
    """Nothing was begun, since another run or program uses the folder, or its metadata is damaged."""


@contextlib.contextmanager
def only_run_into(output: Path) -> Iterator[None]:
    """Keeps other runs out of a folder for as long as the block lasts: two would share metadata and checkpoints.

    The lock is the operating system's and goes with its process, so that a killed run holds nobody up.

    Args:
        output: that is there.

    Raises:
        RunFolderError: another run is in it.
    """
    with (output / _LOCK_FILE).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise RunFolderError(
                f"output = {output}: another run, process {lock.read().strip() or 'unknown'}, is writing there; wait "
                "for its end, or give another output"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def check_metadata(path: Path, *, patience_s: float = _PATIENCE_S) -> None:
    """Looks whether a metadata store can be used; one that is not there will be made.

    Args:
        path: of the SQLite file.
        patience_s: for another program's lock.

    Raises:
        RunFolderError: another program keeps it locked, it cannot be written, or it is damaged.
    """
    if not path.exists():
        return
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=patience_s, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            [(found,), *_] = connection.execute("PRAGMA quick_check").fetchall()
            connection.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        remedy = "close what else has it open" if "locked" in str(error) else "mend that, or give another output"
        raise RunFolderError(f"{path} cannot be used ({error}): {remedy}") from error
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found != "ok":
        found = " ".join(found.splitlines()[:_SHOWN_FAULTS])
        raise RunFolderError(
            f"{path} is damaged ({found}): restore it from a backup, or move it away, and all nodes run again; what "
            "was pushed stays"
        )
