"""Rollback and promotion by hand, in the folder and in its history; and the history when it is damaged or behind."""

import dataclasses
import json
import shutil
from pathlib import Path
from unittest import mock

import pytest
from push_saved_models import save_model, write_test_split

from components.push.comparison import Rule
from components.push.decision import push_model
from components.push.history import History
from components.push.restoring import Change, promote, roll_back
from components.span_ingest import folder
from components.span_ingest.folder import LocalFolder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    directory = tmp_path_factory.mktemp("models")
    return [save_model(directory / str(mistakes), mistakes=mistakes) for mistakes in (6, 4, 2)]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    return write_test_split(tmp_path_factory.mktemp("examples") / "Split-test")


def pusher(labelled, folder):
    rule = Rule(0.0, judged_by="estimate")
    return lambda model: push_model(model, blessed=True, test_split_uri=labelled, destination=str(folder), rule=rule)


@pytest.fixture(scope="module")
def three_versions(models, labelled, tmp_path_factory):
    folder = tmp_path_factory.mktemp("three") / "pushed"
    for model in models:
        pusher(labelled, folder)(model)
    return folder


@pytest.fixture
def pushed(three_versions, tmp_path):
    return Path(shutil.copytree(three_versions, tmp_path / "pushed"))


@pytest.fixture
def push(labelled, pushed):
    return pusher(labelled, pushed)


def champion(folder):
    return int((folder / "CHAMPION").read_text())


def history(folder):
    return [json.loads(line) for line in (folder / "HISTORY.jsonl").read_text().splitlines()]


def test_rollback_restores_the_former_champion_and_a_second_one_the_one_before(pushed):
    assert roll_back(str(pushed)) == Change(champion=2, former=3)
    assert champion(pushed) == 2
    assert roll_back(str(pushed)) == Change(champion=1, former=2)
    assert champion(pushed) == 1
    assert [(entry["event"], entry["former"], entry["champion"]) for entry in history(pushed)[-2:]] == [
        ("rolled back", 3, 2),
        ("rolled back", 2, 1),
    ]


def test_rollback_from_the_first_champion_is_refused_and_moves_nothing(pushed):
    roll_back(str(pushed))
    roll_back(str(pushed))
    with pytest.raises(ValueError, match=r"before version 1.*there was none before.*there are 1, 2, 3"):
        roll_back(str(pushed))
    assert champion(pushed) == 1


def test_rollback_passes_over_a_version_that_is_gone(pushed):
    (pushed / "2" / "saved_model.pb").unlink()
    assert roll_back(str(pushed)) == Change(champion=1, former=3)


def test_rollback_without_any_former_version_left_says_so(pushed):
    for version in "12":
        (pushed / version / "saved_model.pb").unlink()
    with pytest.raises(ValueError, match=r"those before it \(2, 1\) are gone"):
        roll_back(str(pushed))


def test_version_that_was_rolled_back_from_is_not_pushed_again_but_may_be_promoted(pushed, push, models):
    roll_back(str(pushed))
    decision = push(models[2])
    assert (decision.blessed, decision.pushed) == (False, None)
    assert "it is version 3, from which somebody rolled back" in decision.reason
    assert champion(pushed) == 2
    assert promote(str(pushed), 3) == Change(champion=3, former=2)
    assert push(models[2]).reason.startswith("Already pushed as version 3: top-1 ")
    assert roll_back(str(pushed)) == Change(champion=2, former=3)


def test_version_that_lost_its_place_to_a_better_one_may_come_back_by_a_push(pushed, push, models, tmp_path):
    roll_back(str(pushed))
    better = save_model(tmp_path / "better", mistakes=1)
    assert push(better).version == "4"
    assert roll_back(str(pushed)) == Change(champion=2, former=4)


def test_promotion_of_a_version_that_is_not_there_is_refused(pushed):
    with pytest.raises(ValueError, match=r"has 1, 2, 3, and no 7"):
        promote(str(pushed), 7)
    assert champion(pushed) == 3


@pytest.mark.parametrize("move", [roll_back, lambda folder: promote(folder, 1)])
def test_folder_without_versions_is_refused_and_not_made(move, tmp_path):
    with pytest.raises(ValueError, match="no pushed model"):
        move(str(tmp_path / "nothing"))
    assert not (tmp_path / "nothing").exists()


def test_pointer_that_was_set_by_hand_enters_the_history_and_can_be_rolled_back(pushed):
    (pushed / "CHAMPION").write_text("1\n")
    assert roll_back(str(pushed)) == Change(champion=3, former=1)
    assert [entry["event"] for entry in history(pushed)] == ["promoted"] * 3 + ["found", "rolled back"]


def test_push_killed_before_its_line_is_told_by_the_next_as_it_would_have_told_it(pushed, push, labelled, tmp_path):
    better, twin = save_model(tmp_path / "better", mistakes=0), tmp_path / "twin"
    shutil.copytree(pushed, twin)
    with mock.patch.object(History, "append", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        push(better)
    assert champion(pushed) == 4
    decisions = push(better), pusher(labelled, twin)(better)
    told = [{**dataclasses.asdict(decision), "pushed": None} for decision in decisions]
    assert json.dumps(told[0]) == json.dumps(told[1]).replace('"Pushed as', '"Already pushed as')
    assert [{**entry, "time": None} for entry in history(pushed)] == [{**e, "time": None} for e in history(twin)]
    assert (history(pushed)[-1]["event"], history(pushed)[-1]["former"]) == ("promoted", 3)
    assert roll_back(str(pushed)).champion == 3


def test_version_without_a_record_that_the_pointer_names_is_found(pushed, push, tmp_path):
    better = save_model(tmp_path / "better", mistakes=0)
    push(better)
    (pushed / "4" / "assets.extra" / "push" / "record.json").unlink()
    lines = (pushed / "HISTORY.jsonl").read_text().splitlines(keepends=True)
    (pushed / "HISTORY.jsonl").write_text("".join(lines[:-1]))
    assert push(better).reason == "Already pushed as version 4: it is the champion."
    assert (history(pushed)[-1]["event"], history(pushed)[-1]["former"]) == ("found", 3)


def test_history_is_replaced_whole_or_not_at_all(pushed):
    before, replace = (pushed / "HISTORY.jsonl").read_bytes(), folder.os.replace

    def die_before_the_history(incoming, target):
        if target.endswith("HISTORY.jsonl"):
            raise OSError(28, "No space left on device")
        replace(incoming, target)

    with (
        mock.patch.object(folder.os, "replace", die_before_the_history),
        pytest.raises(OSError, match="No space left"),
    ):
        roll_back(str(pushed))
    assert champion(pushed) == 2
    assert (pushed / "HISTORY.jsonl").read_bytes() == before


def test_damaged_history_is_refused_with_its_line(pushed):
    with (pushed / "HISTORY.jsonl").open("a") as file:
        file.write('{"event": "promo')
    with pytest.raises(ValueError, match=r"line 4 is '\{\"event\": \"promo'"):
        roll_back(str(pushed))


def test_history_keeps_what_looks_like_an_end_of_line(tmp_path):
    kept = History(LocalFolder(str(tmp_path)))
    kept.append("kept back", champion=1, former=1, reason="classes ['a\u2028b\x85c']")
    kept.append("promoted", champion=2, former=1, reason="next")
    assert [entry["reason"] for entry in kept.entries()] == ["classes ['a\u2028b\x85c']", "next"]
