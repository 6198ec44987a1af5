"""What runs keep for later ones, with anything in its place: it is read, or refused in the documented words."""

import dataclasses
import json
import shutil
from pathlib import Path

import google_crc32c
import hypothesis
import pytest
from fuzzing import altered, damaged, fuzz
from hypothesis import strategies as st
from span_fixtures import png, run, write_files

from components.push import pointer
from components.push.history import History, former_champions, is_withdrawn, last_champion
from components.span_ingest import ledger as ledgers
from components.span_ingest import window
from components.span_ingest.folder import LocalFolder
from components.span_ingest.store import DamagedError, Span, SpanStore
from pipeline.history import page

_ENTRY = {
    "time": "2030-01-01T00:00:00+00:00",
    "event": "promoted",
    "champion": 2,
    "former": 1,
    "reason": "better",
    "candidate": "ab12",
    "comparison": {"difference_interval": [0.0, 0.1]},
}


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> SpanStore:
    """Of one span, of two images."""
    folder = tmp_path_factory.mktemp("store")
    write_files(folder / "in", {"a.png": png(1), "b.png": png(2)})
    store = SpanStore(str(folder / "store"))
    run(store, folder / "in")
    return store


@pytest.fixture(scope="module")
def marker(store) -> Path:
    [path] = Path(store.folder.path).glob("spans/*/SPAN.json")
    return path


@pytest.fixture(scope="module")
def span(store) -> Span:
    [span] = store.spans()
    return span


def _use(store: SpanStore, spans: list[Span], target: Path) -> None:
    """All that a run makes of spans."""
    table = ledgers.SCHEMA.empty_table()
    if spans:
        table = ledgers.pa.concat_tables([ledgers.table_of(store, span) for span in spans])
    ledger = ledgers.Ledger(table)
    paths = ledger.missing_from([])
    assert len(ledger.states(paths)) == len(paths) and all(isinstance(path, str) for path in paths)
    shares = window.shares(ledger, window.choose(spans, trained=0, last=None), tested_on=set(), seed=1)
    assert store.next_number(spans) == len(spans) + 1
    shutil.rmtree(target, ignore_errors=True)
    window.lay_out(store, shares, str(target))


@fuzz(short=50)
@hypothesis.given(data=st.data())
def test_any_marker_is_a_span_or_damaged(store, marker, tmp_path, data):
    whole = marker.read_bytes()
    content = data.draw(damaged(whole) | altered(json.loads(whole)) | st.binary(max_size=50))
    marker.write_bytes(content)
    try:
        _use(store, store.spans(), tmp_path / "window")
    except DamagedError as refused:
        assert "is not what was written" in str(refused)
    finally:
        marker.write_bytes(whole)


@pytest.mark.parametrize(
    ("change", "how"),
    [
        ({"number": "1"}, "number: "),
        ({"number": 2}, "it tells of span 2"),
        ({"rows": 1.5}, "rows: "),
        ({"source": None}, "source: "),
        ({"shards": []}, "its shards hold another number"),
        ({"attempt": "../../elsewhere"}, "a name in it leads out"),
        ({"counts": {"read": 2, "kept": 1, "duplicate": 0, "rejected": 0}}, "what was read is not"),
    ],
)
def test_marker_of_another_meaning_is_damaged(store, marker, change, how):
    whole = marker.read_bytes()
    marker.write_text(json.dumps(json.loads(whole) | change))
    try:
        with pytest.raises(DamagedError, match=how):
            store.spans()
    finally:
        marker.write_bytes(whole)


@fuzz(short=50)
@hypothesis.given(data=st.data(), is_summed=st.booleans())
def test_any_rows_of_a_span_are_read_or_damaged(store, span, tmp_path, data, is_summed):
    """Also where somebody has written the sum of what stands there into the marker."""
    path = Path(store.uri(f"{span.folder}/files.jsonl"))
    whole = path.read_bytes()
    rows = [json.loads(line) for line in whole.splitlines()]
    content = data.draw(damaged(whole) | altered(rows[0]).map(lambda line: line + b"\n" + whole.splitlines()[1]))
    path.write_bytes(content)
    if is_summed:
        span = dataclasses.replace(span, rows_crc32c=google_crc32c.value(content))
    try:
        _use(store, [span], tmp_path / "window")
    except DamagedError as refused:
        assert "is not what was written" in str(refused)
    else:
        assert is_summed or content == whole
    finally:
        path.write_bytes(whole)


def test_row_without_a_path_is_damaged_though_its_sum_is_right(store, span):
    """Found by the test above: a file that is null sorts before no other."""
    path = Path(store.uri(f"{span.folder}/files.jsonl"))
    whole = path.read_bytes()
    content = whole.replace(b'"a.png"', b"null", 1)
    path.write_bytes(content)
    try:
        with pytest.raises(DamagedError, match="no JSON object with path and outcome"):
            ledgers.table_of(store, dataclasses.replace(span, rows_crc32c=google_crc32c.value(content)))
    finally:
        path.write_bytes(whole)


@fuzz(short=60)
@hypothesis.given(data=st.data())
def test_any_history_of_versions_is_read_or_refused_with_its_line(tmp_path, data):
    line = json.dumps(_ENTRY).encode()
    content = data.draw(damaged(line + b"\n" + line + b"\n") | altered(_ENTRY) | st.binary(max_size=50))
    path = tmp_path / "HISTORY.jsonl"
    path.write_bytes(content)
    by_hand, unread = page.read_by_hand(tmp_path)
    if by_hand:  # the rest is words of ours
        assert page.render([], damaged=unread, by_hand=by_hand).encode()
    history = History(LocalFolder(str(tmp_path)))
    try:
        entries = history.entries()
    except ValueError as refused:
        assert f"A line of {path}" in str(refused)
        str(refused).encode()
        return
    assert last_champion(entries) is None or last_champion(entries) >= 0
    assert all(isinstance(version, int) for version in former_champions(entries, 2))
    assert is_withdrawn(entries, 1) in (True, False)
    history.append("kept back", champion=2, former=2, reason="again")
    assert [*entries, history.entries()[-1]] == history.entries()


@pytest.mark.parametrize(
    "line",
    [
        json.dumps(_ENTRY | {"champion": [2]}).encode(),
        json.dumps(_ENTRY | {"former": "1"}).encode(),
        json.dumps(_ENTRY | {"champion": -1}).encode(),
        json.dumps(_ENTRY | {"event": None}).encode(),
        b"[" * 100_000,
        b'{"event": "promoted", "former": null, "champion": ' + b"1" * 5000 + b"}",
        json.dumps(_ENTRY).encode().replace(b"better", b"\xff"),
    ],
    ids=["a list", "a word", "below zero", "no event", "a thousand levels", "a long number", "no UTF-8"],
)
def test_line_that_tells_no_decision_is_refused_with_its_number(tmp_path, line):
    (tmp_path / "HISTORY.jsonl").write_bytes(json.dumps(_ENTRY).encode() + b"\n" + line + b"\n")
    with pytest.raises(ValueError, match=r"HISTORY\.jsonl is a JSON object .*; line 2 is "):
        History(LocalFolder(str(tmp_path))).entries()


@fuzz()
@hypothesis.given(content=st.binary(max_size=30) | st.text(max_size=10).map(str.encode) | st.just(b"1" * 5000))
def test_any_pointer_names_a_version_or_is_refused(tmp_path, content):
    path = tmp_path / "CHAMPION"
    path.write_bytes(content)
    try:
        assert pointer.champion(str(tmp_path)) >= 0
    except ValueError as refused:
        assert str(refused).startswith(f"{path} holds the number of a version")
        str(refused).encode()
