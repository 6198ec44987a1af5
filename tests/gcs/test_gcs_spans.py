"""A store of spans on gs://: one of two rivals makes a span, windows are copied within the store."""

import pytest

_BUCKET = "spans"


@pytest.fixture(scope="module")
def ran(object_store):
    object_store.client.create_bucket(_BUCKET)
    return object_store.run(f"gs://{_BUCKET}", "spans")["spans"]


def test_of_two_runs_at_once_one_makes_the_span_and_nothing_is_kept_twice(ran):
    assert ran["first"] == 3
    assert sorted(ran["raced"], key=str) == [None, [2, 2]] or sorted(ran["raced"], key=str) == [[2, 2], None]
    assert ran["is_empty"]


def test_of_eight_that_create_an_object_one_does_and_its_content_stays(ran):
    assert (ran["created"], ran["winner"], ran["trained"]) == (1, True, 9)
    assert ran["missing"] is None


def test_lost_ledger_is_made_anew_and_it_is_said(ran):
    assert ran["notes"] == ["there was no ledger: it was made from the files of 2 of 2 spans"]


def test_window_holds_each_image_once_and_none_that_is_tested_on(ran):
    assert ran["is_whole"] and ran["without_tested"] and ran["files"] == 4


def test_store_holds_whole_spans_and_nothing_of_dead_or_beaten_runs(ran, object_store):
    names = object_store.names(_BUCKET, "store/spans/")
    assert {tuple(name.split("/")[:3]) for name in names} == {("store", "spans", f"00000{n}") for n in (1, 2)}
    attempts = {name.split("/")[3] for name in names if name.count("/") == 4}
    assert len(attempts) == 2 and len(names) == 2 * (1 + 1 + 2)
