"""read = kept + duplicate + rejected, on whatever mixture; and what is said when it does not hold."""

import collections
import tempfile
from pathlib import Path

import ingest_fixtures as fixtures
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.image_example_gen import ingest, names, summary
from components.image_example_gen.sources import Source

_GOOD = [fixtures.png(seed) for seed in range(3)]
_CONTENTS = st.sampled_from(
    [*_GOOD, b"", b"text", _GOOD[0][:40], fixtures.encode(fixtures.pixels(9, size=(101, 100)))]
)
_NAMES = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "a/", "b/c/", ".hidden/"]),
    st.sampled_from(["1", "2", "\N{CAT FACE}", "new\nline"]),
    st.sampled_from([".png", ".jpg", ".txt", ".cls", ".json", ""]),
)
_MEMBERS = st.dictionaries(st.one_of(_NAMES, st.just("../out.png")), _CONTENTS, max_size=4)
_PACKED = st.one_of(
    st.builds(lambda members: (".tar", fixtures.tar_bytes(members)), _MEMBERS),
    st.builds(lambda members: (".tar", fixtures.tar_bytes(members)[:700]), _MEMBERS),
    st.builds(lambda members: (".tgz", fixtures.tar_bytes(members, mode="w:gz")), _MEMBERS),
    st.builds(lambda members: (".zip", fixtures.zip_bytes(members)), _MEMBERS),
)
_FILES = st.dictionaries(_NAMES, _CONTENTS, max_size=6)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(train=_FILES, test=_FILES, packed=st.lists(_PACKED, max_size=2), labeled=st.booleans())
def test_nothing_vanishes_from_any_mixture(train, test, packed, labeled):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        # One good image a split, so that the run has something to keep.
        train = {**train, "ok/train.png": fixtures.png(50)}
        test = {**test, "ok/test.png": fixtures.png(51)}
        fixtures.write_files(root / "train", train)
        fixtures.write_files(root / "train", {f"pack{n}{end}": data for n, (end, data) in enumerate(packed)})
        fixtures.write_files(root / "test", test)
        run = fixtures.ingest(
            root / "out",
            fixtures.source(root / "train", "labeled" if labeled else "unlabeled"),
            fixtures.source(root / "test", "test"),
        )
    for name, account in run.summary.items():
        assert account["read"] == account["kept"] + account["duplicate"] + account["rejected"]
        rejects = [reject for reject in run.rejects if reject["source"] == name]
        assert collections.Counter(r["reason"] for r in rejects) == account["reasons"]
        assert len(rejects) == account["rejected"]
    kept = [example for split in run.examples.values() for example in split]
    assert len(kept) == sum(account["kept"] for account in run.summary.values())
    assert len({example["sha256"] for example in kept}) == len({example["key"] for example in kept}) == len(kept)
    read_from_test = sum(not names.is_hidden(name) and not name.endswith(".cls") for name in test)
    assert run.summary["test"]["read"] == read_from_test


def test_an_image_that_beam_loses_fails_the_run():
    source = Source("s", "/images", "train", labeled=False)
    accounts = {"s": summary.Account(read=2, kept=1, splits=collections.Counter(train=1))}
    with pytest.raises(RuntimeError, match="read 2 images, but kept 1"):
        summary.check(accounts, [source], splits=["train"], max_rejected_share=1.0)


def test_rejected_for_want_of_a_label_are_told_how_to_give_one():
    source = Source("s", "/images", "train", labeled=True)
    account = summary.Account(read=3, kept=1, rejected=0, splits=collections.Counter(train=1))
    for uri in ("/images/1.png", "/images/2.png"):
        account.reject(uri, summary.NO_LABEL)
    with pytest.raises(ValueError, match=r"2 of 3 images .*(?s:.*)folders named after their class"):
        summary.check({"s": account}, [source], splits=["train"], max_rejected_share=0.2)


@pytest.mark.parametrize("reads", [[], [0, 0, 1], [1]])
def test_a_work_item_that_beam_loses_or_repeats_fails_the_run(tmp_path, reads):
    run_settings = ingest.Settings(
        splits=(), split_uris=(), work_uri=str(tmp_path), num_shards=1, max_pixels=1, holdout_fraction=0.0
    )
    part = ingest.Part({}, [], {}, [ingest.Read(number, "s", 1) for number in reads])
    (tmp_path / "part-00000").write_bytes(ingest.pickle.dumps(part))
    with pytest.raises(RuntimeError, match="lost or repeated"):
        ingest.collect(run_settings, work_count=2)
