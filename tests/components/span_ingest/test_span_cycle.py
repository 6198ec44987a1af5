"""One cycle after the other: only what is new, all of it once, whatever came, changed, went or was broken."""

import io
import os
import shutil
import stat
import tarfile
import tempfile
from pathlib import Path

import apache_beam as beam
import pytest
import span_fixtures as fixtures
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from span_fixtures import png, read_here, run, write_files

from components.image_example_gen import ingest
from components.span_ingest import cycle
from components.span_ingest.store import Counts, SpanStore
from pipeline.config import DataConfig

DEFAULT_SHARE = {"max_rejected_share": DataConfig().max_rejected_share}


@pytest.fixture
def source(tmp_path):
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


@pytest.fixture
def store(tmp_path):
    return SpanStore(str(tmp_path / "store"))


def tar(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def rows(store, number):
    return {row["path"]: row for row in store.rows(store.spans()[number - 1]) if "member" not in row}


def test_each_cycle_ingests_only_what_is_new(source, store):
    write_files(source, {"a.png": png(1), "deep/b.png": png(2)})
    first = run(store, source)
    assert (first.made.number, first.made.counts) == (1, Counts(2, 2, 0, 0))
    write_files(source, {"c.png": png(3)})
    second = run(store, source)
    assert (second.made.number, second.made.counts) == (2, Counts(1, 1, 0, 0))
    assert set(rows(store, 2)) == {"c.png"}
    third = run(store, source)
    assert third.made is None and third.delivery.is_empty and third.notes == ()
    assert [len(span) for span in fixtures.hashes(store)] == [2, 1]


def test_empty_delivery_makes_no_span(source, store):
    assert run(store, source).made is None
    assert store.spans() == [] and fixtures.files_of(store) == set()


def test_what_became_of_each_file_is_told(source, store):
    write_files(source, {"a.png": png(1)})
    run(store, source)
    delivered = {
        "again.png": png(1),
        "b.png": png(2),
        "copy.png": png(2),
        "bad.png": b"",
        "week.tar": tar({"x.png": png(3), "y.png": png(1), "notes.bin": b"no image"}),
        "empty.tar": tar({}),
    }
    write_files(source, delivered)
    made = run(store, source).made
    assert made.counts == Counts(read=7, kept=2, duplicate=3, rejected=2)
    told = rows(store, 2)
    assert {path: row["outcome"] for path, row in told.items()} == {
        "again.png": "duplicate",
        "b.png": "kept",
        "copy.png": "duplicate",
        "bad.png": "rejected",
        "week.tar": "archive",
        "empty.tar": "archive",
    }
    assert (told["again.png"]["of"], told["copy.png"]["of"], told["bad.png"]["reason"]) == ("1", "this run", "empty")
    assert told["b.png"]["key"].startswith("b-") and told["b.png"]["size"] == len(png(2))
    members = {row["member"]: row for row in store.rows(made) if "member" in row}
    assert {name: row["outcome"] for name, row in members.items()} == {
        "x.png": "kept",
        "y.png": "duplicate",
        "notes.bin": "rejected",
    }
    assert run(store, source).delivery.is_empty


def test_one_name_in_two_deliveries_gives_two_keys(source, store):
    write_files(source, {"1.tar": tar({"000.png": png(1)})})
    run(store, source)
    write_files(source, {"2.tar": tar({"000.png": png(2)})})
    run(store, source)
    keys = [r["key"].decode() for span in store.spans() for r in fixtures.records(store.uri(span.folder))]
    assert [key[:4] for key in keys] == ["000-", "000-"] and len(set(keys)) == 2


def test_changed_file_is_read_again_and_its_old_image_stays(source, store):
    write_files(source, {"a.png": png(1), "b.png": png(2)})
    run(store, source)
    write_files(source, {"a.png": png(3) + b"."})
    changed = run(store, source)
    assert changed.delivery.changed == ("a.png",) and changed.made.counts == Counts(1, 1, 0, 0)
    assert changed.notes == ("a.png has changed since it was ingested, and is read again",)
    assert [len(span) for span in fixtures.hashes(store)] == [2, 1]


def test_touched_file_is_a_duplicate(source, store):
    write_files(source, {"a.png": png(1)})
    run(store, source)
    os.utime(source / "a.png", ns=(1, 1))
    assert run(store, source).made.counts == Counts(1, 0, 1, 0)
    assert run(store, source).delivery.is_empty


def test_file_of_which_only_the_entry_changed_is_known_again(source, store, tmp_path):
    """As a backup by hard links leaves it, and one that is restored."""
    write_files(source, {"a.png": png(1), "b.png": png(2)})
    run(store, source)
    (source / "a.png").chmod(0o600)
    (tmp_path / "backup.png").hardlink_to(source / "a.png")
    shutil.copy2(source / "b.png", tmp_path / "restored.png")
    (tmp_path / "restored.png").replace(source / "b.png")
    again = run(store, source)
    assert again.delivery.is_empty and again.notes == ()


def test_vanished_file_is_told_of_and_its_image_stays(source, store):
    write_files(source, {"a.png": png(1), "b.png": png(2)})
    run(store, source)
    (source / "a.png").unlink()
    gone = run(store, source)
    assert gone.delivery.vanished == ("a.png",) and gone.made is None
    assert gone.notes == ("a.png was ingested once and is there no more; what was kept of it stays",)
    assert [len(span) for span in fixtures.hashes(store)] == [2]
    (source / "b.png").unlink()
    [note] = run(store, source).notes
    assert note == "2 files were ingested once and are there no more; what was kept of them stays, such as a.png"
    write_files(source, {"a.png": png(1), "b.png": png(2)})
    assert run(store, source).delivery.vanished == ()


def test_link_out_of_the_folder_is_rejected_once(source, store, tmp_path):
    write_files(tmp_path, {"secret.png": png(9)})
    (source / "out.png").symlink_to(tmp_path / "secret.png")
    assert run(store, source).made.counts == Counts(1, 0, 0, 1)
    assert run(store, source).delivery.is_empty


@pytest.mark.parametrize("stray", [{"README.md": b"photos"}, {"half.png": png(7)[:40]}, "link", "folder"])
def test_one_stray_file_alone_is_a_span_of_rejects_and_is_not_read_again(source, store, tmp_path, stray):
    write_files(source, {"a.png": png(1)})
    run(store, source, **DEFAULT_SHARE)
    if isinstance(stray, dict):
        write_files(source, stray)
    elif stray == "link":
        write_files(tmp_path, {"secret.png": png(9)})
        (source / "out.png").symlink_to(tmp_path / "secret.png")
    else:
        (source / "elsewhere").symlink_to(tmp_path)
    found = run(store, source, **DEFAULT_SHARE)
    assert found.made.counts == Counts(1, 0, 0, 1)
    verdict = cycle.judge(found.spans, trained=1, in_window=1, min_new_images=1, min_window_images=1)
    assert verdict.words == "no new images: nothing to do"
    assert run(store, source, **DEFAULT_SHARE).delivery.is_empty


@pytest.mark.parametrize(
    ("good", "bad", "is_refused"), [(0, 9, False), (0, 10, True), (30, 10, True), (40, 10, False)]
)
def test_share_of_rejects_is_judged_from_ten_of_them(source, store, good, bad, is_refused):
    write_files(
        source, {f"{seed}.png": png(seed) for seed in range(good)} | {f"{n}.bad": b"?%d" % n for n in range(bad)}
    )
    if is_refused:
        with pytest.raises(ValueError, match=f"{bad} of {good + bad} images .* were rejected"):
            run(store, source, **DEFAULT_SHARE)
        assert store.spans() == []
    else:
        assert run(store, source, **DEFAULT_SHARE).made.counts == Counts(good + bad, good, 0, bad)


def test_more_rejects_than_allowed_make_no_span_and_are_looked_at_again(source, store):
    write_files(source, {"a.png": png(1), **{f"{number}.bad": b"text" for number in range(10)}})
    with pytest.raises(ValueError, match=r"10 of 11 images .* were rejected"):
        run(store, source, max_rejected_share=0.5)
    assert fixtures.files_of(store) == set()
    write_files(source, {f"{seed}.png": png(seed) for seed in range(2, 13)})
    assert run(store, source, max_rejected_share=0.5).made.counts == Counts(22, 12, 0, 10)


def test_file_that_is_still_being_written_is_left_for_the_next_run(source, store):
    write_files(source, {"done.png": png(1), "half.png": png(2)[:50]})
    write_files(source, {"half.png": png(2)[:50]})

    def more(seconds):
        assert seconds == 5.0
        (source / "half.png").write_bytes(png(2))

    left = run(store, source, settle_s=5.0, wait=more)
    assert left.delivery.unsettled == ("half.png",) and left.delivery.take == ("done.png",)
    assert left.notes == ("half.png is still being written, and is left for the next run",)
    waited = []
    assert run(store, source, settle_s=5.0, wait=waited.append).made.counts == Counts(1, 1, 0, 0)
    assert waited == [5.0]


def test_file_that_vanishes_between_two_looks_is_left(source, store):
    write_files(source, {"a.png": png(1)})
    left = run(store, source, settle_s=5.0, wait=lambda _: (source / "a.png").unlink())
    assert left.delivery.unsettled == ("a.png",) and left.made is None


@pytest.mark.parametrize(("clock_s", "looks_twice"), [(10**10, False), (0.0, True)])
def test_old_files_are_taken_at_once_and_those_of_the_future_after_a_second_look(source, store, clock_s, looks_twice):
    """0: a clock that was moved back, by which all files are of the future."""
    write_files(source, {"a.png": png(1)})
    waited = []
    assert run(store, source, settle_s=5.0, clock=lambda: clock_s, wait=waited.append).made.counts.kept == 1
    assert waited == [5.0] * looks_twice


def test_file_that_shrinks_away_while_it_is_read_is_read_again(source, store):
    write_files(source, {"a.png": png(1)})

    def read(*arguments):
        (source / "a.png").unlink()
        return read_here(*arguments)

    assert run(store, source, read).made.counts == Counts(1, 0, 0, 1)
    write_files(source, {"a.png": png(1)})
    again = run(store, source)
    assert again.delivery.changed == ("a.png",) and again.made.counts == Counts(1, 1, 0, 0)


def test_read_but_not_told_of_fails_and_makes_no_span(source, store):
    write_files(source, {"a.png": png(1), "b.png": png(2)})

    def forget(*arguments):
        part = read_here(*arguments)
        return ingest.Part(part.accounts, [], {}, part.reads, part.shards, part.told[1:])

    with pytest.raises(RuntimeError, match=r"files.jsonl tells of"):
        run(store, source, forget)
    assert store.spans() == []


def test_counts_that_do_not_add_up_cannot_be():
    with pytest.raises(RuntimeError, match="read=3, kept=1"):
        Counts(3, 1, 1, 0)


@pytest.mark.parametrize(
    ("trained", "in_window", "least", "batch", "proceed", "words"),
    [
        (0, 7, 1, 1, True, "7 new images"),
        (2, 7, 1, 1, False, "no new images: nothing to do"),
        (2, 7, 0, 1, True, "0 new images"),
        (1, 7, 3, 1, False, "2 new images, fewer than retrain.min_new_images = 3"),
        (1, 7, 2, 8, False, "the window has 7 images, and a batch takes 8"),
        (1, 1, 2, 8, False, "the window has 1 image, and a batch takes 8"),
        (0, 0, 0, 0, False, "the window has 0 images"),
    ],
)
def test_verdict(source, store, trained, in_window, least, batch, proceed, words):
    for delivery in ([1, 2, 3, 4, 5], [6, 7]):
        write_files(source, {f"{seed}.png": png(seed) for seed in delivery})
        run(store, source)
    verdict = cycle.judge(
        store.spans(), trained=trained, in_window=in_window, min_new_images=least, min_window_images=batch
    )
    assert verdict.proceed is proceed and words in verdict.words


def test_beam_reads_what_the_plain_reader_reads(source, store, tmp_path):
    write_files(source, {"a.png": png(1), "b.png": png(1), "c.png": b"", "d.tar": tar({"a.png": png(2)})})
    by_beam = SpanStore(str(tmp_path / "by_beam"))
    for delivery in ({}, {"e.png": png(2), "f.png": png(3)}):
        write_files(source, delivery)
        run(store, source, with_perceptual_hash=True)
        run(by_beam, source, cycle.reader(lambda: beam.Pipeline(runner=FnApiRunner()), []), with_perceptual_hash=True)
    assert fixtures.contents(by_beam) == fixtures.contents(store)
    assert len(by_beam.spans()) == 2


def test_work_folder_of_a_span_is_its_owners_alone(store, source):
    modes = []

    def read(work, given, known):
        modes.append(stat.S_IMODE(os.stat(given.work_uri).st_mode))
        return read_here(work, given, known)

    write_files(source, {"a.png": png(1)})
    run(store, source, read)
    assert modes == [0o700]


_NAMES = st.sampled_from(["a.png", "b.png", "sub/a.png", "c.tar", "d!e.tar", ".hidden.png", "x\ny.png", "n.cls"])
_CONTENTS = st.sampled_from(
    [png(1), png(2), png(3), b"", b"text", png(1)[:40], tar({"a.png": png(1), "b": b"?"}), tar({"a!b.png": png(4)})]
)
_CHANGE = st.dictionaries(_NAMES, st.one_of(st.none(), _CONTENTS), max_size=4)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(history=st.lists(_CHANGE, min_size=1, max_size=4))
def test_nothing_vanishes_and_nothing_is_kept_twice_in_any_history(history):
    """Files come, change and go; None removes one."""
    with tempfile.TemporaryDirectory() as folder:
        source, store = Path(folder, "source"), SpanStore(str(Path(folder, "store")))
        source.mkdir()
        for change in history:
            for name, data in change.items():
                if data is None:
                    (source / name).unlink(missing_ok=True)
                else:
                    write_files(source, {name: data})
            made = run(store, source).made
            if made:
                told = [row["outcome"] for row in store.rows(made)]
                assert made.counts.kept == told.count("kept") == sum(shard.records for shard in made.shards)
                assert made.counts.duplicate == told.count("duplicate")
                assert made.counts.rejected == told.count("rejected")
            assert run(store, source).delivery.is_empty
        kept = [sha256 for span in fixtures.hashes(store) for sha256 in span]
        assert len(kept) == len(set(kept))
        # A reader that knows of no ledger finds nothing that is not in a span.
        anew = SpanStore(str(Path(folder, "anew")))
        run(anew, source)
        assert {sha256 for span in fixtures.hashes(anew) for sha256 in span} <= set(kept)
