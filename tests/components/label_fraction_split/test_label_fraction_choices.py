"""What a store keeps of the label fractions: read back, added to by one run at a time, refused if damaged."""

import json

import pytest

from components.label_fraction_split import choices
from components.span_ingest.folder import LocalFolder
from components.span_ingest.store import DamagedError
from trainer.label_fractions import smallest_fractions

FRACTIONS = (0.1, 0.5)


def keys(*classes, first=0, count=40):
    return {label: [f"{label}/{number}" for number in range(first, first + count)] for label in classes}


def settle(store, keys_by_class, *, fractions=FRACTIONS, seed=0):
    return choices.settle(str(store), keys_by_class, fractions, seed=seed)


def files(store):
    return sorted(path.relative_to(store).as_posix() for path in store.rglob("*") if path.is_file())


def test_labels_that_arrive_are_added_and_the_others_stay(tmp_path):
    first = settle(tmp_path, keys("cat", "dog"))
    assert first == smallest_fractions(keys("cat", "dog"), FRACTIONS, seed=0)
    grown = keys("ant", "cat", "dog", count=55)
    second = settle(tmp_path, grown)
    assert first.items() <= second.items() and len(second) == 165
    # Chosen without the first ones, some of these would be elsewhere.
    assert not first.items() <= smallest_fractions(grown, FRACTIONS, seed=0).items()
    assert files(tmp_path) == [f"labels/seed-0-fractions-0.1-0.5/00000{number}.json" for number in (1, 2)]
    told = [json.loads((tmp_path / name).read_text()) for name in files(tmp_path)]
    assert told[0] == first and told[1].keys() == second.keys() - first.keys()


def test_nothing_new_writes_nothing(tmp_path):
    first = settle(tmp_path, keys("cat"))
    assert settle(tmp_path, keys("cat")) == first
    assert settle(tmp_path, keys("cat", count=20)) == {key: first[key] for key in keys("cat", count=20)["cat"]}
    assert len(files(tmp_path)) == 1


def test_other_seeds_and_fractions_have_choices_of_their_own(tmp_path):
    settle(tmp_path, keys("cat"))
    for given in ({"seed": 1}, {"fractions": (0.1,)}):
        fractions, seed = given.get("fractions", FRACTIONS), given.get("seed", 0)
        expected = smallest_fractions(keys("cat"), fractions, seed=seed)
        assert settle(tmp_path, keys("cat"), **given) == expected
    assert len(files(tmp_path)) == 3


def test_of_two_runs_at_once_the_second_keeps_what_the_first_has_chosen(tmp_path, monkeypatch):
    create, rivals = LocalFolder.create, [keys("cat", first=100), keys("cat", first=200)]

    def later(self, name, content):
        if rivals:
            settle(tmp_path, rivals.pop())
        return create(self, name, content)

    monkeypatch.setattr(LocalFolder, "create", later)
    both = {"cat": [*keys("cat")["cat"], *keys("cat", first=100)["cat"], *keys("cat", first=200)["cat"]]}
    ours = settle(tmp_path, both)
    assert rivals == [] and len(files(tmp_path)) == 3
    for first in (100, 200):
        theirs = settle(tmp_path, keys("cat", first=first))
        assert theirs.items() <= ours.items()
    assert settle(tmp_path, both) == ours


@pytest.mark.parametrize("content", [b"", b'{"cat/1": 0.1', b"[]", b'{"cat/1": 0.3}', b'{"cat/1": [0.1]}', b"\xff"])
def test_damaged_choice_is_named_with_what_to_do(tmp_path, content):
    settle(tmp_path, keys("cat"))
    (tmp_path / files(tmp_path)[0]).write_bytes(content)
    with pytest.raises(DamagedError, match=r"000001\.json is not what was written: .* or remove .*-0\.1-0\.5: "):
        settle(tmp_path, keys("cat"))
