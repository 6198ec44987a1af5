"""The ledger is a cache: missing, cut, foreign or behind, it is made anew from the spans, and that is said."""

import dataclasses
import time
from pathlib import Path

import pyarrow as pa
import pytest
import span_fixtures as fixtures
from span_fixtures import png, run, write_files

from components.span_ingest import ledger as ledgers
from components.span_ingest.listing import State
from components.span_ingest.store import DamagedError, SpanStore


@pytest.fixture
def source(tmp_path):
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


@pytest.fixture
def store(source, tmp_path):
    """Two spans: two images, then a third and a copy."""
    store = SpanStore(str(tmp_path / "store"))
    for delivery in ({"a.png": png(1), "b.png": png(2)}, {"c.png": png(3), "d.png": png(1)}):
        write_files(source, delivery)
        run(store, source)
    return store


@pytest.fixture
def file(store):
    return Path(store.uri(ledgers.LEDGER))


def test_ledger_at_hand_is_used_as_it_is(store, file):
    before = file.stat()
    loaded = ledgers.load(store, store.spans())
    assert loaded.notes == () and loaded.table.num_rows == 4
    assert file.stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda file: file.unlink(), "there was no ledger: it was made from the files of 2 of 2 spans"),
        (lambda file: file.write_bytes(b""), "the ledger was damaged"),
        (lambda file: file.write_bytes(file.read_bytes()[:-20]), "the ledger was damaged"),
        (lambda file: file.write_bytes(b"PAR1" + b"\0" * 400 + b"PAR1"), "the ledger was damaged"),
        (lambda file: pa.parquet.write_table(pa.table({"x": [1]}), file), "the ledger was of another version"),
        (lambda file: pa.parquet.write_table(ledgers.SCHEMA.empty_table(), file), "2 of 2 spans"),
    ],
    ids=["missing", "empty", "cut", "zeros", "foreign", "of no span"],
)
def test_damaged_ledger_is_made_anew_from_the_spans_and_it_is_said(store, file, source, damage, words):
    good = ledgers.load(store, store.spans()).table
    damage(file)
    mended = run(store, source)
    assert mended.made is None
    assert [words in note for note in mended.notes] == [True]
    assert mended.ledger.table.equals(good) and ledgers.load(store, store.spans()).table.equals(good)
    assert run(store, source).notes == ()


def test_ledger_that_is_behind_gets_only_what_it_lacks(store, file, source, monkeypatch):
    behind = file.read_bytes()
    write_files(source, {"e.png": png(4)})
    run(store, source)
    good = ledgers.load(store, store.spans()).table
    file.write_bytes(behind)
    read = []
    monkeypatch.setattr(SpanStore, "rows", _recorded(SpanStore.rows, read))
    mended = ledgers.load(store, store.spans())
    assert mended.table.equals(good) and read == [3]
    assert mended.notes == ("the ledger ended with span 2: it was made from the files of 1 of 3 spans",)


def _recorded(rows, read):
    def recorded(store, span):
        read.append(span.number)
        return rows(store, span)

    return recorded


def test_ledger_of_spans_that_are_no_more_is_made_anew(store, source):
    store.folder.remove("spans/000001")
    mended = run(store, source)
    assert any("other spans" in note for note in mended.notes)
    # What the source still has of it is ingested anew, under a number of its own.
    assert [span.number for span in store.spans()] == [2, 3]
    assert mended.made.counts.kept == 2


@pytest.mark.parametrize("change", [b"", b'{"path":"a.png"}\n', None])
def test_changed_files_of_a_span_are_refused_with_what_to_do(store, file, change):
    file.unlink()
    name = f"{store.spans()[0].folder}/files.jsonl"
    if change is None:
        Path(store.uri(name)).unlink()
    else:
        Path(store.uri(name)).write_bytes(change)
    with pytest.raises(DamagedError, match=r"files\.jsonl is not what was written: .*Restore it, or remove .*000001"):
        ledgers.load(store, store.spans())


def test_marker_that_cannot_be_read_is_refused_with_what_to_do(store):
    Path(store.uri("spans/000002/SPAN.json")).write_text('{"number": 2}')
    with pytest.raises(DamagedError, match=r"SPAN\.json is not what was written: .*remove .*000002"):
        store.spans()


def test_latest_state_of_a_file_counts(store, source):
    write_files(source, {"a.png": png(5) + b"longer"})
    made = run(store, source)
    [state, none] = made.ledger.states(["a.png", "nowhere.png"])
    assert state == State(len(png(5)) + 6, str((source / "a.png").stat().st_mtime_ns)) and none is None
    assert made.ledger.missing_from(["a.png", "c.png"]) == ["b.png", "d.png"]


def test_kept_images_are_found_by_span(store):
    ledger = ledgers.load(store, store.spans())
    assert [sorted(ledger.kept([number])["sha256"].to_pylist()) for number in (1, 2)] == fixtures.hashes(store)
    assert sorted(span for piece in ledger.contents() for _, span in piece) == [1, 1, 2]


def _synthetic(n_files: int) -> ledgers.Ledger:
    columns = {name: [None] * n_files for name in ledgers.SCHEMA.names}
    columns["path"] = [f"folder/{number}.png" for number in range(n_files)]
    columns |= {"size": [1] * n_files, "version": ["1"] * n_files, "outcome": ["kept"] * n_files}
    return ledgers.Ledger(pa.table({**columns, "span": [1] * n_files}, schema=ledgers.SCHEMA))


def test_look_up_takes_time_in_proportion():
    def seconds(n_files: int) -> float:
        ledger, paths = _synthetic(n_files), [f"folder/{number}.png" for number in range(0, n_files, 2)]
        best = float("inf")
        for _ in range(3):
            started = time.process_time()
            states, missing = ledger.states(paths), ledger.missing_from(paths)
            best = min(best, time.process_time() - started)
        assert None not in states and len(missing) == n_files // 2
        return best

    small, large = seconds(4_000), seconds(64_000)
    # 16 times as much; a scan of the ledger for each file would take 256 times as long.
    assert large < 64 * small


def test_next_number_is_none_that_was_trained_on(store):
    store.mark_trained(7)
    store.mark_trained(7)
    assert store.trained() == 7 and store.next_number(store.spans()) == 8


def test_what_a_marker_says_is_read_back(store):
    for span in store.spans():
        assert dataclasses.replace(span) == store._parse(f"spans/{span.number:06d}/SPAN.json")
        assert span.shard_of("ffffffff" + "0" * 56) == 1
