"""Labels that come over months, with a store: no image changes sides, whatever comes after it, and none its key."""

import hashlib
import json

import ingest_fixtures as fixtures
import pytest
from ingest_fixtures import ingest, png, source, write_files

from components.image_example_gen import splits
from components.image_example_gen.dedupe import is_held_out
from components.span_ingest.store import DamagedError

HELD_OUT = 0.3
MANY = {f"many/{number}.png": png(100 + number) for number in range(20)}


def named(pattern, *, held_out, count):
    found = (pattern.format(number) for number in range(1000))
    return [name for name in found if is_held_out(name, HELD_OUT) == held_out][:count]


def sha(seed):
    return hashlib.sha256(png(seed)).hexdigest()


@pytest.fixture
def cycle(tmp_path):
    """Labels that are there in one week after another; returns the seeds of both splits, and what was ingested."""
    weeks = []

    def cycle(files, **sources):
        week = tmp_path / str(len(weeks))
        weeks.append(files)
        given = [source(write_files(week / "labels", MANY | files), "labeled")]
        given += [source(write_files(week / name, images), name) for name, images in sources.items()]
        fraction = 0.0 if sources else HELD_OUT
        return ingest(week / "out", *given, holdout_fraction=fraction, store=str(tmp_path / "store"))

    return cycle


def side_of(run, seed):
    return [
        split
        for split in ("train", "test")
        if sha(seed).encode() in {image["sha256"] for image in run.examples[split]}
    ]


@pytest.mark.parametrize("turn", [list, lambda seeds: seeds[::-1]])
def test_last_image_of_a_class_trains_on_when_the_class_grows(cycle, turn):
    """The one that comes has the smaller hash or the larger one: that would else decide which of them trains."""
    first, second = turn(sorted((1, 2), key=sha))
    names = named("rare/{}", held_out=True, count=2)
    assert side_of(cycle({f"{names[0]}.png": png(first)}), first) == ["train"]
    run = cycle({f"{names[0]}.png": png(first), f"{names[1]}.png": png(second)})
    assert (side_of(run, first), side_of(run, second)) == (["train"], ["test"])


def test_copy_under_a_held_out_name_does_not_make_a_training_image_a_test_image(cycle):
    [trains], [tests] = (named("cat/{}", held_out=held_out, count=1) for held_out in (False, True))
    assert side_of(cycle({f"{trains}.png": png(1)}), 1) == ["train"]
    for files in ({f"{trains}.png": png(1), f"{tests}.png": png(1)}, {f"{tests}.png": png(1)}):
        assert side_of(cycle(files), 1) == ["train"]


def test_test_image_stays_one_under_a_name_that_would_train(cycle):
    [trains], [tests] = (named("cat/{}", held_out=held_out, count=1) for held_out in (False, True))
    other = {f"{named('cat/{}', held_out=False, count=2)[1]}.png": png(2)}
    assert side_of(cycle({f"{tests}.png": png(1)} | other), 1) == ["test"]
    assert side_of(cycle({f"{trains}.png": png(1)} | other), 1) == ["test"]


@pytest.mark.parametrize("turn", [list, lambda seeds: seeds[::-1]])
def test_test_image_does_not_train_though_its_class_has_no_other_left(cycle, turn):
    first, second = turn(sorted((1, 2), key=sha))
    [trains], [tests, comes] = (named("cat/{}", held_out=held_out, count=1 + held_out) for held_out in (False, True))
    run = cycle({f"{trains}.png": png(3), f"{tests}.png": png(first)})
    assert (side_of(run, 3), side_of(run, first)) == (["train"], ["test"])
    assert side_of(cycle({f"{tests}.png": png(first)}), first) == ["test"]
    run = cycle({f"{tests}.png": png(first), f"{comes}.png": png(second)})
    assert (side_of(run, first), side_of(run, second)) == (["test"], ["train"])


def test_image_that_has_trained_is_refused_as_a_declared_test_image(cycle):
    [trains] = named("cat/{}", held_out=False, count=1)
    cycle({f"{trains}.png": png(1)})
    run = cycle({f"{trains}.png": png(1)}, test={"cat/new.png": png(1), "cat/other.png": png(2)})
    assert side_of(run, 1) == ["train"] and side_of(run, 2) == ["test"]
    assert run.reasons() == {"new.png": "trained_on_before"}


def test_keys_are_the_same_before_and_after_a_namesake_comes(tmp_path):
    store, runs = str(tmp_path / "store"), []
    for week, tars in enumerate((("1",), ("1", "2"))):
        files = {f"{name}.tar": fixtures.tar_bytes({"cat/0.png": png(int(name))}) for name in tars}
        labels = write_files(tmp_path / str(week) / "in", MANY | files)
        runs.append(
            ingest(tmp_path / str(week) / "out", source(labels, "labeled"), holdout_fraction=HELD_OUT, store=store)
        )
    keys = [{image["sha256"]: image["key"] for split in run.examples.values() for image in split} for run in runs]
    assert keys[0].items() <= keys[1].items() and len(keys[1]) == len(keys[0]) + 1
    assert all(key.endswith(f"-{content.decode()[:8]}".encode()) for content, key in keys[1].items())


def test_what_is_kept_is_each_content_and_its_split(cycle, tmp_path):
    runs = [cycle({}), cycle({"many/new.png": png(1)})]
    kept = {image["sha256"].decode(): split for split, images in runs[1].examples.items() for image in images}
    assert splits.read(str(tmp_path / "store")) == kept and set(kept.values()) == {"train", "test"}
    second = json.loads((tmp_path / "store" / "splits" / "000002.json").read_text())
    assert list(second) == [sha(1)]


def test_run_that_is_refused_keeps_nothing(tmp_path):
    labels = write_files(tmp_path / "in", MANY | {"many/bad.png": b"no image"})
    with pytest.raises(ValueError, match="were rejected"):
        ingest(
            tmp_path / "out",
            source(labels, "labeled"),
            holdout_fraction=HELD_OUT,
            max_rejected_share=0.01,
            store=str(tmp_path / "store"),
        )
    assert splits.read(str(tmp_path / "store")) == {}


def test_of_two_runs_at_once_the_second_is_refused_where_they_differ(tmp_path):
    splits.keep(str(tmp_path), {"a": "train", "b": "test"})
    splits.keep(str(tmp_path), {"b": "test", "c": "train"})
    with pytest.raises(RuntimeError, match="1 images are in the other split"):
        splits.keep(str(tmp_path), {"a": "test", "d": "train"})
    assert splits.read(str(tmp_path)) == {"a": "train", "b": "test", "c": "train"}


@pytest.mark.parametrize("content", ["", "[]", '{"a": "validation"}'])
def test_damaged_file_is_refused_by_its_name(cycle, tmp_path, content):
    cycle({})
    (tmp_path / "store" / "splits" / "000001.json").write_text(content)
    with pytest.raises(DamagedError, match=r"splits/000001.json is not what was written: .* Restore it, or remove"):
        cycle({})


@pytest.mark.parametrize("store", [None, "store"])
def test_wrong_label_of_a_copy_takes_no_image_out_of_the_declared_test_set(tmp_path, store):
    labels = write_files(tmp_path / "labels", MANY | {"dog/1.png": png(1)})
    test = write_files(tmp_path / "test", {"cat/1.png": png(1), "cat/2.png": png(2)})
    parameters = {"store": str(tmp_path / store)} if store else {}
    run = ingest(tmp_path / "out", source(labels, "labeled"), source(test, "test"), **parameters)
    assert sorted(run.labels("test").values()) == ["cat", "cat"] and side_of(run, 1) == ["test"]
    assert run.rejects[0]["uri"].endswith("labels/dog/1.png") and run.rejects[0]["reason"] == "conflicting_labels"
    assert [run.summary["test"][count] for count in ("read", "kept", "rejected")] == [2, 2, 0]


def test_test_images_that_contradict_each_other_are_all_refused(tmp_path):
    labels = write_files(tmp_path / "labels", MANY | {"dog/1.png": png(1)})
    test = write_files(tmp_path / "test", {"cat/1.png": png(1), "dog/1.png": png(1), "cat/2.png": png(2)})
    run = ingest(tmp_path / "out", source(labels, "labeled"), source(test, "test"))
    assert side_of(run, 1) == [] and len(run.rejects) == 3
