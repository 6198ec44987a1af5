"""What readers leave for writers: attempts that are killed or repeated, batches of any size, nothing for good."""

import collections
import os
import pickle
import re
import stat

import ingest_fixtures as fixtures
import pytest

from components.image_example_gen import ingest, scratch, sources


class _KilledError(Exception):
    """A worker's end."""


class _Fatal:
    """Ends the worker that pickles it."""

    def __reduce__(self):
        raise _KilledError


@pytest.fixture
def images(tmp_path):
    files = {f"{seed}.png": fixtures.png(seed) for seed in range(6)}
    return fixtures.write_files(tmp_path / "images", files | {"broken.png": b""})


@pytest.fixture
def run_settings(tmp_path):
    (tmp_path / "work").mkdir()
    return ingest.Settings(
        splits=(),
        split_uris=(),
        work_uri=str(tmp_path / "work"),
        num_shards=2,
        max_pixels=10_000,
        holdout_fraction=0.0,
    )


@pytest.fixture
def element(images):
    _, work = sources.plan(sources.Source("s", str(images), "train", labeled=False))
    return pickle.dumps((0, work[0]))


def _values(outputs, tag):
    values = [output.value for output in outputs if output.tag == tag]
    return [getattr(value, "value", value) for value in values]


def _uris_left_by(batches):
    fetched = [scratch.fetch(uri) for _, uri in batches]
    return sorted(
        [record.uri for batch in fetched for record in batch.records]
        + [reject.uri for batch in fetched for _, reject in batch.rejects]
    )


def test_an_attempt_that_was_killed_leaves_nothing_in_what_the_next_one_sends(images, run_settings, element):
    reader = ingest.ReadImages(run_settings)
    reader.start_bundle()
    list(reader.process(element))
    reader.start_bundle()
    sent = [*reader.process(element), *reader.finish_bundle()]
    assert _uris_left_by(_values(sent, "batches")) == sorted(str(path) for path in images.iterdir())
    assert [read.images for read in _values(sent, "reads")] == [7]


def test_two_attempts_at_the_same_work_share_no_file(run_settings, element):
    attempts = []
    for _ in range(2):
        reader = ingest.ReadImages(run_settings)
        reader.start_bundle()
        attempts.append(_values([*reader.process(element), *reader.finish_bundle()], "batches"))
    first, second = ({uri for _, uri in attempt} for attempt in attempts)
    assert first and not first & second
    assert _uris_left_by(attempts[0]) == _uris_left_by(attempts[1])


def test_a_file_that_was_not_finished_has_no_name_to_go_by(tmp_path):
    with pytest.raises(_KilledError):
        scratch.leave(str(tmp_path), [bytes(2**20), _Fatal()])
    (unfinished,) = tmp_path.iterdir()
    uri = scratch.leave(str(tmp_path), "whole")
    assert uri != str(unfinished) and scratch.fetch(uri) == "whole"


@pytest.mark.parametrize("limit", ["_OUTBOX_ITEMS", "_OUTBOX_BYTES"])
def test_how_much_is_sent_at_a_time_changes_no_byte(images, tmp_path, monkeypatch, limit):
    whole = fixtures.ingest(tmp_path / "whole", fixtures.source(images))
    sizes = collections.Counter()
    leave = scratch.leave

    def counting(folder, value):
        sizes["batches"] += isinstance(value, ingest.Batch)
        return leave(folder, value)

    monkeypatch.setattr(scratch, "leave", counting)
    monkeypatch.setattr(ingest, limit, 1)
    parts = fixtures.ingest(tmp_path / "parts", fixtures.source(images))
    assert parts.files == whole.files
    # One a file read, and the empty one that all writers get.
    assert sizes["batches"] == 8 if limit == "_OUTBOX_ITEMS" else sizes["batches"] in (7, 8)


@pytest.mark.parametrize(
    ("contents", "limit"), [([b""] * 3, 10_000), ([fixtures.png(seed) for seed in range(3)], 20_000)]
)
def test_names_count_in_what_is_sent_at_a_time(tmp_path, run_settings, monkeypatch, contents, limit):
    """A reject's once, an image's twice, for it is its key too: each time the first two are more than is held."""
    monkeypatch.setattr(ingest, "_OUTBOX_BYTES", limit)
    members = {f"{number}{'n' * 6000}": content for number, content in enumerate(contents)}
    (tmp_path / "a.tar").write_bytes(fixtures.tar_bytes(members))
    _, work = sources.plan(sources.Source("s", str(tmp_path / "a.tar"), "train", labeled=False))
    reader = ingest.ReadImages(run_settings)
    reader.start_bundle()
    sent = list(reader.process(pickle.dumps((0, work[0]))))
    assert len(_uris_left_by(_values(sent, "batches"))) == 2


def test_work_folder_is_its_owners_alone(images, tmp_path, monkeypatch):
    modes, leave = set(), scratch.leave

    def looking(folder, value):
        modes.add(stat.S_IMODE(os.stat(folder).st_mode))
        return leave(folder, value)

    monkeypatch.setattr(scratch, "leave", looking)
    before = os.umask(0)
    try:
        fixtures.ingest(tmp_path / "out", fixtures.source(images))
    finally:
        os.umask(before)
    assert modes == {0o700}


def test_nothing_is_left_of_a_run(images, tmp_path):
    run = fixtures.ingest(tmp_path / "out", fixtures.source(images))
    names = {re.sub(r"\d{5}", "N", name) for name in run.files}
    assert names == {
        "examples/Split-train/data_tfrecord-N-of-N",
        "summary/rejects.jsonl",
        "summary/summary.json",
    }


def test_nothing_is_left_of_a_run_whose_worker_fails(images, tmp_path, monkeypatch):
    def fail(*_):
        raise _KilledError("worker")

    monkeypatch.setattr(ingest, "serialise", fail)
    with pytest.raises(Exception, match="worker"):
        fixtures.ingest(tmp_path / "out", fixtures.source(images))
    assert not (tmp_path / "out" / "summary" / "work").exists()
