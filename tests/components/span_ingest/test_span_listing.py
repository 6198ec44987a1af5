"""What a look at a source sees: folders, globs, dates and numbers in paths, hostile names."""

import hashlib
import os

import pytest
from memory_file_system import OBJECTS
from span_fixtures import png, run, write_files

from components.span_ingest import listing
from components.span_ingest.store import Counts, SpanStore


def seen(path) -> set[str]:
    return set(listing.look(str(path)).files)


def test_folder_is_seen_whole_but_for_what_is_hidden_or_a_label(tmp_path):
    write_files(tmp_path, {"a.png": b"1", "b/c.tar": b"2", ".git/x.png": b"3", "a.cls": b"4", "Thumbs.db": b"5"})
    look = listing.look(str(tmp_path))
    assert set(look.files) == {"a.png", "b/c.tar"}
    status = (tmp_path / "a.png").stat()
    assert look.files["a.png"] == (1, str(status.st_mtime_ns)) and look.touched_s["a.png"] >= status.st_mtime


def test_globs_archives_and_nothing(tmp_path):
    write_files(tmp_path, {"a-1.tar": b"1", "a-2.tar": b"2", "b.tar": b"3"})
    assert seen(tmp_path / "a-*.tar") == {"a-1.tar", "a-2.tar"}
    assert seen(tmp_path / "b.tar") == {"b.tar"}
    assert seen(tmp_path / "c-*.tar") == set()
    (tmp_path / "empty").mkdir()
    assert seen(tmp_path / "empty") == set()
    with pytest.raises(ValueError, match="does not exist"):
        listing.look(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("slash", ["", "/", "//"])
@pytest.mark.parametrize("marked", [True, False])
def test_remote_folder_is_seen_whole_with_a_slash_at_its_end_or_without_and_with_a_marker_or_without(
    monkeypatch, slash, marked
):
    """A marker is an empty object with the folder's name, as consoles make it."""
    objects = dict.fromkeys(["photos/top.png", "photos/a/1.png", "photos/.git/x.png", "photos2/b.png"], b"1")
    markers = dict.fromkeys(["photos/", "photos/a/", "photos/empty/"], b"") if marked else {}
    for name, data in (objects | markers).items():
        monkeypatch.setitem(OBJECTS, f"mem://bucket/{name}", data)
    look = listing.look(f"mem://bucket/photos{slash}")
    assert (look.root, set(look.files), look.rejects) == ("mem://bucket/photos", {"top.png", "a/1.png"}, {})


def test_remote_glob_of_files_takes_none_out_of_folders(monkeypatch):
    monkeypatch.setitem(OBJECTS, "mem://bucket/photos/a/1.png", b"1")
    assert seen("mem://bucket/photos/*") == set()
    assert seen("mem://bucket/*/a/*.png") == {"photos/a/1.png"}


def test_folder_that_vanishes_while_it_is_listed_is_as_one_that_was_never_there(tmp_path, monkeypatch):
    write_files(tmp_path, {"a.png": b"1", "gone/b.png": b"2"})
    scandir = os.scandir

    def vanishing(path):
        if str(path).endswith("gone"):
            (tmp_path / "gone" / "b.png").unlink()
            (tmp_path / "gone").rmdir()
        return scandir(path)

    monkeypatch.setattr(os, "scandir", vanishing)
    look = listing.look(str(tmp_path))
    assert set(look.files) == {"a.png"} and look.rejects == {} and not (tmp_path / "gone").exists()


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("span-{SPAN}", {"span-1/a.png", "span-12/b/c.png"}),
        ("span-{SPAN}/*.png", {"span-1/a.png"}),
        ("{YYYY}/{MM}/{DD}", {"2026/01/31/d.png"}),
        ("{YYYY}/*/{DD}/*.png", {"2026/01/31/d.png"}),
        ("*/{SPAN}.tar", {"x/7.tar"}),
    ],
)
def test_numbers_and_dates_in_paths(tmp_path, pattern, found):
    names = ["span-1/a.png", "span-12/b/c.png", "span-x/e.png", "2026/01/31/d.png", "x/7.tar", "top.png"]
    write_files(tmp_path, dict.fromkeys(names, b"1"))
    assert seen(tmp_path / pattern) == found


@pytest.mark.parametrize(
    ("source", "path", "order"),
    [
        ("in/span-{SPAN}", "span-012/a.png", (12,)),
        ("in/{YYYY}-{MM}-{DD}", "2026-02-01/a.png", (2026, 2, 1)),
        ("in/{DD}.{MM}.{YYYY}.tar", "01.02.2026.tar", (2026, 2, 1)),
        ("in", "span-1/a.png", None),
    ],
)
def test_order_of_a_delivery(source, path, order):
    assert listing.order_of(path, source) == order


def test_late_file_is_ingested_with_the_next_span_and_told_of(tmp_path):
    source, store = tmp_path / "in", SpanStore(str(tmp_path / "store"))
    write_files(source, {"span-1/a.png": png(1), "span-2/b.png": png(2)})
    pattern = str(source / "span-{SPAN}")
    assert run(store, pattern).delivery.late == ()
    write_files(source, {"span-1/late.png": png(3), "span-3/c.png": png(4)})
    second = run(store, pattern)
    assert second.delivery.late == ("span-1/late.png",) and second.made.counts.kept == 2
    told = "span-1/late.png belongs to an earlier delivery than one that was ingested before"
    assert second.notes == (told,)
    assert run(store, pattern).delivery.is_empty


def test_hostile_names_are_known_again(tmp_path):
    source, store = tmp_path / "in", SpanStore(str(tmp_path / "store"))
    odd = ["new\nline.png", "emoji \N{CAT FACE}.png", "quote\"'\\.png", "a!b.png", "=1+1.png", "<b>.png", "x" * 250]
    write_files(source, {name: png(number) for number, name in enumerate(odd)})
    (source / os.fsdecode(b"caf\xe9.png")).write_bytes(png(99))
    made = run(store, source).made
    assert made.counts.kept == len(odd) + 1
    assert {row["path"] for row in store.rows(made)} == {*odd, "caf\\xe9.png"}
    assert run(store, source).delivery.is_empty


def test_of_names_that_are_written_the_same_one_is_read_and_the_others_are_rejects(tmp_path):
    source, store = tmp_path / "in", SpanStore(str(tmp_path / "store"))
    alike = [rb"\xe9\xe8.png", rb"\xe9" + b"\xe8.png", b"\xe9" + rb"\xe8.png", b"\xe9\xe8.png"]
    write_files(source, {os.fsdecode(name): png(number) for number, name in enumerate(alike)})
    made = run(store, source).made
    assert made.counts == Counts(read=4, kept=1, duplicate=0, rejected=3)
    rows = {row["path"]: row for row in store.rows(made)}
    text = r"\xe9\xe8.png"
    assert set(rows) == {text, *(f"{text}//{number}" for number in (2, 3, 4))}
    assert rows[text]["sha256"] == hashlib.sha256(png(0)).hexdigest() and rows[f"{text}//2"]["reason"] == "same_name"
    assert run(store, source).delivery.is_empty
    (source / os.fsdecode(alike[0])).unlink()
    assert run(store, source).made.counts == Counts(1, 1, 0, 0)
