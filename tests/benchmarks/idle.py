"""What `make retrain` takes when nothing is new: `PYTHONPATH=.:tests python -m benchmarks.idle`, some minutes.

The source's files are empty and the ledger's rows synthetic: neither is opened by a run that finds nothing new.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa

from benchmarks import scale
from components.span_ingest import delivery, ledger, listing
from components.span_ingest.store import Counts, Span, SpanStore

_FILES_A_FOLDER = 10_000
_ROUNDS = 3
_NOTHING = "no new images: nothing to do"


def make_source(folder: Path, files: int, suffix: str) -> None:
    """Empty files, ten thousand a folder."""
    for number in range(files):
        parent = folder / f"{number // _FILES_A_FOLDER:05}"
        if number % _FILES_A_FOLDER == 0:
            parent.mkdir(parents=True)
        (parent / f"image-{number:09}{suffix}").touch()


def make_store(folder: Path, source: Path, members: int) -> int:
    """One span that was trained on and holds all of the source, with its ledger; returns the ledger's rows.

    Args:
        folder: of the store.
        source: of files, or of archives with so many members each.
        members: of an archive; 0: the files are images.
    """
    store, files = SpanStore(str(folder)), listing.look(str(source)).files
    images = scale.synthetic_ledger(len(files) * (members or 1)).table
    paths, states = list(files), list(files.values())
    of_files = {"size": [state.size for state in states], "version": [state.version for state in states]}
    if members:
        nothing = [None] * len(images)
        placed = [paths[number // members] for number in range(len(images))]
        images = _with(images, path=placed, member=images["path"].to_pylist(), size=nothing, version=nothing)
        outcomes = [delivery.ARCHIVE] * len(files)
        archives = {"path": paths, **of_files, "outcome": outcomes, "span": [1] * len(files)}
        empty = {name: [None] * len(files) for name in ledger.SCHEMA.names}
        images = pa.concat_tables([images, pa.table({**empty, **archives}, schema=ledger.SCHEMA)])
    else:
        images = _with(images, path=paths, **of_files)
    attempt = store.begin(1)
    rows, crc32c = store.write_rows(attempt, [])
    kept = len(images) - (len(files) if members else 0)
    span = Span(1, attempt.rpartition("/")[2], Counts(kept, kept, 0, 0), (), rows, crc32c, str(source), "")
    assert store.commit(span)
    store.mark_trained(1)
    empty = ledger.Ledger(ledger.SCHEMA.empty_table())
    name = ledger.extended(store, empty, span).table.schema.metadata
    ledger.save(store, images.combine_chunks().replace_schema_metadata(name))
    return len(images)


def _with(table: pa.Table, **columns: list) -> pa.Table:
    for name, values in columns.items():
        position = ledger.SCHEMA.get_field_index(name)
        table = table.set_column(
            position, ledger.SCHEMA.field(name), pa.array(values, ledger.SCHEMA.field(name).type)
        )
    return table


def idle(folder: Path) -> tuple[float, float, float]:
    """One such run, in a process of its own: seconds by the clock, seconds of CPU, MB held at most."""
    settings = {
        "data.unlabeled": folder / "source",
        "data.labeled": folder / "source",
        "retrain.store": folder / "store",
        "output": folder / "run",
    }
    command = [sys.executable, "-m", "pipeline", "retrain", *(f"--set={n}={value}" for n, value in settings.items())]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0 and said.strip().endswith(_NOTHING), said
    return wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main() -> None:
    """Prints a row a source: the median round by the clock."""
    print(f"{'source':34}{'rows':>12}{'wall, s':>10}{'CPU, s':>10}{'peak, MB':>10}")  # noqa: T201
    for name, files, suffix, members in (
        ("10 files", 10, ".png", 0),
        ("100 archives of 10,000 images", 100, ".tar", 10_000),
        ("1,000,000 files", 1_000_000, ".png", 0),
    ):
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            make_source(folder / "source", files, suffix)
            rows = make_store(folder / "store", folder / "source", members)
            wall, cpu, peak = sorted(idle(folder) for _ in range(_ROUNDS))[_ROUNDS // 2]
        print(f"{name:34}{rows:>12,}{wall:10.1f}{cpu:10.1f}{peak:10.0f}")  # noqa: T201


if __name__ == "__main__":
    main()
