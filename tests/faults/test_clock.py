"""A clock that is moved back by a year in the middle: nothing is lost, and what came later stays later.

Of the history page and the watch, whose business is time, `test_history.py` and `test_watch_loop.py` show it; of a
part of a run, whose metadata ML Metadata dates, `test_local_spans.py`; of a file of the future, `test_span_cycle.py`.
"""

import datetime
import os
import time
import types

import killed_training
import pytest
import span_fixtures
import tensorflow as tf

from components.push import history, restoring
from components.push.versions import VersionedDirectory
from components.span_ingest import store as store_module
from components.span_ingest.store import SpanStore

YEAR = datetime.timedelta(days=365)


class _AYearAgo(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) - YEAR


@pytest.fixture
def move_back(monkeypatch):
    """Moves the clock back, for everything that asks Python for the time."""
    before = time.time
    shifted = types.SimpleNamespace(datetime=_AYearAgo, timezone=datetime.timezone)

    def move_back():
        monkeypatch.setattr(time, "time", lambda: before() - YEAR.total_seconds())
        for module in (history, store_module):
            monkeypatch.setattr(module, "datetime", shifted)

    return move_back


def test_spans_stay_in_their_order_and_the_latest_state_of_a_file_counts(tmp_path, move_back):
    source, store = tmp_path / "source", SpanStore(str(tmp_path / "store"))
    span_fixtures.write_files(source, {"a.png": span_fixtures.png(1), "b.png": span_fixtures.png(2)})
    span_fixtures.run(store, source)
    move_back()
    ago = (datetime.datetime.now() - YEAR).timestamp()
    # A new file, and one that was changed and is now dated before what was read of it.
    span_fixtures.write_files(source, {"a.png": span_fixtures.png(3), "c.png": span_fixtures.png(4)})
    for name in ("a.png", "c.png"):
        os.utime(source / name, (ago, ago))
    cycle = span_fixtures.run(store, source)
    assert (cycle.delivery.changed, cycle.made.counts.kept) == (("a.png",), 2)
    first, second = store.spans()
    assert (first.number, second.number) == (1, 2) and second.made < first.made
    assert span_fixtures.run(store, source).delivery.is_empty
    store.mark_trained(1)
    store.mark_trained(2)
    assert store.trained() == 2 and store.next_number(store.spans()) == 3
    # Made anew from the spans, the ledger says the same.
    os.unlink(tmp_path / "store" / "ledger.parquet")
    assert span_fixtures.run(store, source).delivery.is_empty


def test_newest_checkpoints_are_kept_and_taken_by_their_steps(tmp_path, move_back):
    expected = killed_training.run()

    def hook(number):
        if number == 5:
            move_back()
        killed_training.kill_at(9)(number)

    with pytest.raises(killed_training.KilledError):
        killed_training.run(str(tmp_path), every_steps=2, batch_hook=hook)
    kept = [
        os.path.basename(path) for path in tf.train.get_checkpoint_state(str(tmp_path)).all_model_checkpoint_paths
    ]
    assert kept == ["ckpt-6", "ckpt-8"]
    batches = []
    resumed = killed_training.run(str(tmp_path), every_steps=2, batch_hook=batches.append)
    assert batches[0] == 8
    killed_training.assert_same_training(resumed, expected)


def test_versions_and_their_history_go_on_and_a_rollback_finds_the_one_before(tmp_path, move_back):
    model, pushed = tmp_path / "model", VersionedDirectory(str(tmp_path / "pushed"))
    model.mkdir()

    def push(number):
        (model / "saved_model.pb").write_text(str(number))
        with pushed.exclusive():
            former, told = pushed.champion(), pushed.history()
            pushed.crown(pushed.add(str(model), model_fingerprint=str(number)))
            told.append(history.PROMOTED, champion=number, former=former, reason="better")

    push(1)
    push(2)
    move_back()
    push(3)
    entries = pushed.history().entries()
    assert [entry["champion"] for entry in entries] == [1, 2, 3]
    assert entries[-1]["time"] < entries[-2]["time"]
    assert restoring.roll_back(pushed.path) == restoring.Change(champion=2, former=3)
    assert pushed.versions() == [1, 2, 3] and history.is_withdrawn(pushed.history().entries(), 3)
