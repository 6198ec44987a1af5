"""The window: which spans, how much of each, as one folder of TFRecords, each content once and no test image."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import span_fixtures as fixtures
from hypothesis import given
from hypothesis import strategies as st
from span_fixtures import png, run, write_files

from components.span_ingest import account, window
from components.span_ingest import ledger as ledgers
from components.span_ingest.cycle import Verdict
from components.span_ingest.store import Counts, DamagedError, Span, SpanStore


@pytest.fixture
def source(tmp_path):
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


@pytest.fixture
def store(source, tmp_path):
    """Three spans of 12, 12 and 12 images."""
    store = SpanStore(str(tmp_path / "store"))
    for delivery in range(3):
        write_files(source, {f"{delivery}/{seed}.png": png(100 * delivery + seed) for seed in range(12)})
        run(store, source)
    return store


@pytest.fixture
def ledger(store, source):
    return run(store, source).ledger


def lay_out(store, ledger, target, *, trained=3, last=None, half_life_spans=None, tested_on=(), seed=1):
    parts = window.choose(store.spans(), trained=trained, last=last, half_life_spans=half_life_spans)
    shares = window.shares(ledger, parts, tested_on=tested_on, seed=seed)
    window.lay_out(store, shares, str(target))
    laid_out = [record["sha256"].decode() for record in fixtures.records(target)]
    assert len(laid_out) == len(set(laid_out)) == sum(share.images for share in shares)
    return set(laid_out), shares


@pytest.mark.parametrize(("last", "spans"), [(None, [0, 1, 2]), (1, [2]), (2, [1, 2]), (9, [0, 1, 2])])
def test_window_holds_the_images_of_its_spans(store, ledger, tmp_path, last, spans):
    found, _ = lay_out(store, ledger, tmp_path / "out", last=last)
    assert found == {sha256 for span in spans for sha256 in fixtures.hashes(store)[span]}
    assert len(list((tmp_path / "out").iterdir())) == 2 * len(spans)


def test_older_spans_give_a_smaller_share_and_what_is_left_of_one_only_shrinks(store, ledger, tmp_path):
    spans = store.spans()
    shares = [part.share for part in window.choose(spans, trained=2, last=None, half_life_spans=2.0)]
    assert shares == [0.5, 0.5**0.5, 1.0]
    found, laid = lay_out(store, ledger, tmp_path / "out", half_life_spans=2.0)
    by_span = [found & set(span) for span in fixtures.hashes(store)]
    assert len(by_span[2]) == 12 and 0 < len(by_span[0]) < 12 and 0 < len(by_span[1]) < 12
    assert [len(span) for span in by_span] == [share.images for share in laid]
    sharper, _ = lay_out(store, ledger, tmp_path / "sharper", half_life_spans=1.0)
    assert sharper < found


def _span(number: int, kept: int) -> Span:
    return Span(number, "", Counts(kept, kept, 0, 0), (), kept, 0, "", "")


def _numbers(kept: list[int], *, trained: int, last: int | None) -> list[int]:
    """Of the spans with images that are in the window."""
    spans = [_span(number, images) for number, images in enumerate(kept, 1)]
    return [part.span.number for part in window.choose(spans, trained=trained, last=last) if part.span.counts.kept]


@pytest.mark.parametrize(
    ("kept", "trained", "last", "numbers"),
    [
        # Twenty-five small deliveries waited for `min_new_images`: all are trained on before they are noted as that.
        ([20] * 25, 0, 8, [*range(1, 26)]),
        # As one they leave room for what was there before, with which drift compares them.
        ([100, 100, 100, 20, 20, 20, 20], 3, 3, [2, 3, 4, 5, 6, 7]),
        ([100, 100, 20, 20], 2, 1, [3, 4]),
        # A delivery of which nothing was kept takes no place, new or old.
        ([9, 9, 0, 0, 9, 0], 4, 2, [2, 5]),
        ([9, 9, 0, 0], 2, 2, [1, 2]),
        # Trained on again without new images.
        ([9, 9, 9], 3, 2, [2, 3]),
        ([0, 0], 0, 2, []),
    ],
)
def test_window_holds_all_that_is_new_and_counts_only_spans_with_images(kept, trained, last, numbers):
    assert _numbers(kept, trained=trained, last=last) == numbers


def test_new_spans_give_all_their_images_and_those_without_images_make_others_no_older():
    spans = [_span(number, images) for number, images in enumerate([9, 9, 0, 9, 0, 9], 1)]
    shares = {
        part.span.number: part.share for part in window.choose(spans, trained=2, last=None, half_life_spans=1.0)
    }
    assert {number: shares[number] for number in (1, 2, 4, 6)} == {1: 0.25, 2: 0.5, 4: 1.0, 6: 1.0}


@given(
    st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=12),
    st.integers(1, 4),
    st.floats(0.3, 4),
)
def test_each_image_is_once_whole_in_a_window_before_it_is_noted_as_trained_on_and_then_only_fades(
    history, last, half_life
):
    """Deliveries of so many images, after each of which a run is completed or none."""
    spans, trained, shares = [], 0, {}
    for number, (kept, is_completed) in enumerate(history, 1):
        spans.append(_span(number, kept))
        parts = window.choose(spans, trained=trained, last=last, half_life_spans=half_life)
        now = {part.span.number: part.share for part in parts}
        assert all(now[span.number] == 1.0 for span in spans if span.number > trained)
        assert all(now.get(span, 0.0) <= share for span, share in shares.items())
        shares |= {span.number: now.get(span.number, 0.0) for span in spans}
        trained = number if is_completed else trained


def test_shares_are_about_as_stated_and_another_seed_draws_others():
    drawn = [{n for n in range(10_000) if window.is_sampled(f"{n}", 0.25, seed=seed)} for seed in (1, 2)]
    assert all(2_300 < len(some) < 2_700 for some in drawn) and drawn[0] != drawn[1]
    assert drawn[0] < {n for n in range(10_000) if window.is_sampled(f"{n}", 0.5, seed=1)}


def test_window_of_nothing_is_one_file_without_records(store, tmp_path):
    window.lay_out(store, [], str(tmp_path / "out"))
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "out").iterdir()] == [
        ("data_tfrecord-00000-of-00001", b"")
    ]


@pytest.mark.parametrize("half_life_spans", [None, 1.0])
def test_same_window_is_the_same_bytes(store, ledger, tmp_path, half_life_spans):
    for name in ("one", "two"):
        lay_out(store, ledger, tmp_path / name, half_life_spans=half_life_spans)
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two and len(one) == 6


def test_image_that_is_tested_on_today_is_left_out_of_spans_of_yesterday(store, ledger, tmp_path):
    tested = {fixtures.hashes(store)[0][3], fixtures.hashes(store)[2][5]}
    found, shares = lay_out(store, ledger, tmp_path / "out", tested_on=[*tested, "0" * 64])
    assert len(found) == 34 and not found & tested
    assert [len(share.tested_on) for share in shares] == [1, 0, 1]


@pytest.mark.parametrize(("last", "left_out"), [(None, [2, 0, 1]), (1, [1])])
def test_test_images_that_earlier_runs_ingested_are_counted_also_in_spans_that_have_left_the_window(
    store, source, last, left_out
):
    tested = {*fixtures.hashes(store)[0][3:5], fixtures.hashes(store)[2][5], "0" * 64}
    found = run(store, source)
    parts = window.choose(found.spans, trained=3, last=last)
    shares = window.shares(found.ledger, parts, tested_on=tested, seed=1)
    verdict = Verdict(True, 0, "")
    told, none = (
        json.loads(
            account.spans_json(
                found, verdict, parts, shares, trained=3, tested_on=tested_on, near_duplicate_bits=None
            )
        )
        for tested_on in (tested, {"0" * 64})
    )
    assert told["test_images_in_spans"] == 3 and [span["tested_on"] for span in told["window"]] == left_out
    [note] = told["notes"]
    assert note.startswith("3 test images were ingested without a label before") and "the champion" in note
    assert (none["test_images_in_spans"], none["notes"]) == (0, [])


def test_content_that_is_in_two_spans_all_the_same_counts_once(store, ledger, tmp_path):
    """No run makes such spans; a store that was put together by hand may have them."""
    other = SpanStore(str(tmp_path / "other"))
    write_files(tmp_path / "again", {"x.png": png(3), "y.png": png(999)})
    made = run(other, tmp_path / "again").made
    span = dataclasses.replace(made, number=4)
    shutil.copytree(other.uri(made.folder), store.uri(span.folder))
    assert store.commit(span)
    merged = ledgers.load(store, store.spans())
    assert merged.table.num_rows == 38
    found, shares = lay_out(store, merged, tmp_path / "out")
    assert len(found) == 37 and [len(share.repeated) for share in shares] == [0, 0, 0, 1]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [_cut, _flip, Path.unlink, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("half_life_spans", [None, 0.001])
def test_damaged_shard_is_named_with_what_to_do(store, ledger, tmp_path, damage, half_life_spans):
    span = store.spans()[0]
    damage(Path(store.uri(f"{span.folder}/{span.shards[1].name}")))
    with pytest.raises(DamagedError, match=r"data_tfrecord-00001.* is not what was written: .*remove .*000001"):
        lay_out(store, ledger, tmp_path / "out", half_life_spans=half_life_spans)


def test_what_happens_to_the_artifact_does_not_happen_to_the_span(store, ledger, tmp_path):
    before = fixtures.contents(store)
    lay_out(store, ledger, tmp_path / "out")
    for path in (tmp_path / "out").iterdir():
        path.write_bytes(b"gone")
    assert fixtures.contents(store) == before
