"""Samples of spans: random, the same whoever draws them, and out of few shards."""

import collections

import pytest
from span_fixtures import hashes, png, run, write_files

from components.drift import samples
from components.span_ingest import ledger as ledgers
from components.span_ingest import window
from components.span_ingest.store import DamagedError, SpanStore


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A store of a span of 40 images and one of 80, in eight shards each."""
    root = tmp_path_factory.mktemp("spans")
    store, source = SpanStore(str(root / "store")), root / "source"
    for delivery, count in enumerate((40, 80)):
        write_files(source, {f"{delivery}/{seed}.png": png(100 * delivery + seed) for seed in range(count)})
        run(store, source, num_shards=8)
    return store.folder.path


@pytest.fixture
def draw(folder):
    store = SpanStore(folder)
    spans = store.spans()
    ledger = ledgers.load(store, spans)

    def draw(size, seed, tested_on=()):
        shares = window.shares(ledger, [window.Part(span, 1.0) for span in spans], tested_on=tested_on, seed=0)
        return samples.read(store, ledger, shares, size=size, seed=seed)

    return draw


def test_sample_is_capped_and_follows_from_its_seed(draw):
    first, again, other = draw(10, 3), draw(10, 3), draw(10, 4)
    assert (first.keys, first.images) == (again.keys, again.images)
    assert len(set(first.keys)) == 10 and set(first.keys) != set(other.keys)
    assert first.n_images == 120


def test_whole_set_is_chosen_where_it_is_no_larger_each_key_with_its_image(draw):
    chosen = draw(500, 0)
    made = {f"{delivery}/{seed}": png(100 * delivery + seed) for delivery in (0, 1) for seed in range(80)}
    assert len(set(chosen.keys)) == 120
    assert all(made[key.rpartition("-")[0]] == image for key, image in zip(chosen.keys, chosen.images, strict=True))


def test_every_image_is_chosen_as_often_as_any_other(draw):
    counts = collections.Counter(key for seed in range(100) for key in draw(24, seed).keys)
    # A fifth of the images, 100 times: 20 each, and four and a half standard deviations of the binomial are 18.
    assert len(counts) == 120 and min(counts.values()) >= 4 and max(counts.values()) <= 56
    of_second = sum(count for key, count in counts.items() if key.startswith("1/"))
    assert of_second / 2400 == pytest.approx(2 / 3, abs=0.05)


def test_few_shards_are_opened(draw, monkeypatch):
    opened, of_disk = [], SpanStore("x").folder.__class__.open
    monkeypatch.setattr(
        "components.span_ingest.folder.LocalFolder.open",
        lambda self, name: (opened.append(name), of_disk(self, name))[1],
    )
    draw(6, 1)
    # A shard of 5 images and one of 10 on average, out of 16.
    assert 2 <= len(opened) == len(set(opened)) <= 4


def test_images_that_are_left_out_are_never_chosen(draw, folder):
    tested_on = hashes(SpanStore(folder))[0]
    chosen = draw(500, 0, tested_on=tested_on)
    assert chosen.n_images == len(chosen.keys) == 80
    assert all(key.startswith("1/") for key in chosen.keys)


def test_shard_that_is_not_what_was_written_is_named_with_the_remedy(tmp_path):
    store = SpanStore(str(tmp_path / "store"))
    write_files(tmp_path / "source", {f"{seed}.png": png(seed) for seed in range(6)})
    ledger = run(store, tmp_path / "source", num_shards=1).ledger
    [span] = store.spans()
    shares = window.shares(ledger, [window.Part(span, 1.0)], tested_on=(), seed=0)
    shard = tmp_path / "store" / span.folder / span.shards[0].name
    whole = shard.read_bytes()
    for left in (whole[:-3], b"", None):
        shard.unlink() if left is None else shard.write_bytes(left)
        with pytest.raises(DamagedError, match=r"is not what was written: .* or remove .*000001"):
            samples.read(store, ledger, shares, size=6, seed=0)
