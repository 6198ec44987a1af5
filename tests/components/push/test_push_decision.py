import dataclasses
import json
import os
import shutil

import pytest
import tensorflow as tf
from push_saved_models import CLASSES, N_IMAGES, save_model, write_test_split

from components.push import decision as subject
from components.push import restoring, scoring
from components.push.comparison import Rule
from components.push.decision import push_model
from components.push.fingerprint import fingerprint
from components.push.scoring import load_classifier, score


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    directory = tmp_path_factory.mktemp("models")
    return {mistakes: save_model(directory / str(mistakes), mistakes=mistakes) for mistakes in (2, 4, 5)}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    return write_test_split(tmp_path_factory.mktemp("examples") / "Split-test")


@pytest.fixture
def push(tmp_path, labelled):
    def push(model, *, blessed=True, max_regression=0.0, judged_by="estimate", test_split=labelled):
        return push_model(
            model,
            blessed=blessed,
            test_split_uri=test_split,
            destination=str(tmp_path / "pushed"),
            rule=Rule(max_regression, judged_by=judged_by),
        )

    return push


def listing(directory):
    return {
        str(path.relative_to(directory)): path.stat().st_mtime_ns
        for path in sorted(directory.rglob("*"))
        if path.name != ".lock"
    }


def events(tmp_path):
    lines = (tmp_path / "pushed" / "HISTORY.jsonl").read_text().splitlines()
    return [(entry["event"], entry["former"], entry["champion"]) for entry in map(json.loads, lines)]


def without_history(files):
    return {name: changed for name, changed in files.items() if name != "HISTORY.jsonl"}


def test_model_that_is_not_blessed_leaves_a_line_of_history_and_nothing_else(push, models, tmp_path):
    decision = push(models[4], blessed=False)
    assert (decision.blessed, decision.pushed, decision.version) == (False, None, None)
    assert "Evaluator did not bless" in decision.reason
    assert list(listing(tmp_path / "pushed")) == ["HISTORY.jsonl"]
    assert events(tmp_path) == [("kept back", None, None)]


def test_first_model_becomes_version_one_and_champion(push, models, tmp_path):
    decision = push(models[4])
    assert decision.blessed
    assert decision.pushed == str(tmp_path / "pushed" / "1")
    assert decision.version == "1"
    assert decision.candidate_top1 == pytest.approx(1 - 4 / N_IMAGES)
    assert decision.champion_version is None
    assert (tmp_path / "pushed" / "CHAMPION").read_text() == "1\n"
    assert fingerprint(decision.pushed) == fingerprint(models[4])


def test_pushed_model_loads_and_scores_as_before(push, models, labelled):
    scored = score(load_classifier(push(models[4]).pushed), labelled)
    assert (scored.top1, len(scored.keys)) == (0.8, N_IMAGES)


def test_same_model_again_changes_nothing(push, models, tmp_path):
    first = push(models[4])
    before = listing(tmp_path / "pushed")
    decision = push(models[4])
    assert listing(tmp_path / "pushed") == before
    assert decision.reason == "Already pushed as version 1: there was no champion to compare with."
    assert dataclasses.replace(decision, reason=first.reason) == first
    assert (decision.blessed, decision.version, decision.pushed) == (True, "1", str(tmp_path / "pushed" / "1"))


def test_better_model_becomes_the_next_version_and_champion(push, models, tmp_path):
    push(models[5])
    decision = push(models[4])
    assert (decision.version, decision.champion_version) == ("2", "1")
    assert (decision.candidate_top1, decision.champion_top1) == (0.8, 0.75)
    assert (tmp_path / "pushed" / "CHAMPION").read_text() == "2\n"


def test_worse_model_is_kept_back_with_the_difference(push, models, tmp_path):
    push(models[4])
    before = listing(tmp_path / "pushed")
    decision = push(models[5])
    assert without_history(listing(tmp_path / "pushed")) == without_history(before)
    assert (decision.blessed, decision.pushed, decision.version) == (False, None, None)
    assert (decision.candidate_top1, decision.champion_top1, decision.champion_version) == (0.75, 0.8, "1")
    assert "Kept back: top-1 0.7500 on 20 test images against 0.8000" in decision.reason
    assert "worse by 0.0500" in decision.reason


def test_worse_model_within_the_allowed_regression_is_pushed(push, models):
    push(models[4])
    assert push(models[5], max_regression=0.05).version == "2"


def test_losses_within_the_margin_that_add_up_are_told_beside_the_best_champion(push, models, tmp_path):
    told = (
        " The best champion so far on these images, version 1, had 0.9000: this model is worse than that by 0.1500."
    )
    first, second = push(models[2]), push(models[4], max_regression=0.1)
    assert (first.best_version, second.best_version, second.best_top1) == (None, "1", 0.9)
    assert "The best champion" not in second.reason  # which is the one that it met
    third = push(models[5], max_regression=0.1)
    assert third.version == "3" and third.reason.endswith(told)
    assert (third.champion_version, third.best_version, third.best_top1) == ("2", "1", 0.9)
    *_, entry = map(json.loads, (tmp_path / "pushed" / "HISTORY.jsonl").read_text().splitlines())
    assert (entry["best_version"], entry["best_top1"], entry["reason"]) == ("1", 0.9, third.reason)


def test_best_champion_is_of_these_images_and_one_that_nobody_has_withdrawn(push, models, tmp_path):
    push(models[2])
    push(models[4], max_regression=0.1)
    other = write_test_split(tmp_path / "other" / "Split-test", n_images=N_IMAGES - 1)
    assert push(models[5], max_regression=0.0, test_split=other).best_version is None
    restoring.promote(str(tmp_path / "pushed"), 1)
    restoring.roll_back(str(tmp_path / "pushed"))
    assert push(models[5]).best_version == "2"


def test_older_version_that_is_worse_now_does_not_return_to_the_throne(push, models, tmp_path):
    push(models[5])
    push(models[4])
    assert not push(models[5]).blessed
    assert (tmp_path / "pushed" / "CHAMPION").read_text() == "2\n"


def test_older_version_that_wins_is_crowned_and_not_copied(push, models, tmp_path):
    push(models[4])
    push(models[5], max_regression=1.0)
    decision = push(models[4])
    assert decision.version == "1"
    assert decision.reason.startswith("Already pushed as version 1: top-1 0.8000")
    assert (tmp_path / "pushed" / "CHAMPION").read_text() == "1\n"
    assert not (tmp_path / "pushed" / "3").exists()


def test_older_version_that_wins_is_recorded_with_what_it_won_by(push, models, tmp_path):
    push(models[4])
    push(models[5], max_regression=1.0)
    won = push(models[4])
    record = json.loads((tmp_path / "pushed" / "1" / "assets.extra" / "push" / "record.json").read_text())
    assert (record["champion_version"], record["champion_top1"]) == ("2", pytest.approx(0.75))
    assert push(models[4]).reason == won.reason


def test_lost_pointer_is_restored_by_the_same_model(push, models, tmp_path):
    push(models[4])
    (tmp_path / "pushed" / "CHAMPION").unlink()
    assert push(models[4]).version == "1"
    assert (tmp_path / "pushed" / "CHAMPION").read_text() == "1\n"


def test_newest_version_is_the_champion_where_the_pointer_is_lost(push, models, tmp_path):
    push(models[4])
    (tmp_path / "pushed" / "CHAMPION").unlink()
    decision = push(models[5])
    assert (decision.blessed, decision.champion_version) == (False, "1")


def test_unreadable_pointer_is_refused_with_a_remedy(push, models, tmp_path):
    push(models[4])
    (tmp_path / "pushed" / "CHAMPION").write_text("the best")
    with pytest.raises(ValueError, match="holds the number of a version; received 'the best'"):
        push(models[5])


_WEIGHTS = "variables/variables.data-00000-of-00001"


@pytest.mark.parametrize("lost", ["", "saved_model.pb", "assets.extra/classes.json", "variables", _WEIGHTS])
def test_champion_that_cannot_be_loaded_gives_way_and_the_reason_says_so(lost, push, models, tmp_path):
    champion = push(models[2]).pushed
    path = os.path.join(champion, lost)
    shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
    decision = push(models[5])
    assert decision.blessed
    assert "the champion, version 1, cannot be scored" in decision.reason
    assert (tmp_path / "pushed" / "CHAMPION").read_text() == f"{decision.version}\n"


@pytest.mark.parametrize("damaged", ["saved_model.pb", "variables/variables.index", _WEIGHTS])
def test_champion_that_was_cut_short_gives_way_whatever_tensorflow_calls_it(damaged, push, models, tmp_path):
    path = os.path.join(push(models[2]).pushed, damaged)
    os.truncate(path, os.path.getsize(path) // 2)
    decision = push(models[5])
    assert (decision.version, decision.champion_top1) == ("2", None)
    assert "the champion, version 1, cannot be scored" in decision.reason


def test_champion_without_the_signature_gives_way(push, models, tmp_path):
    other = shutil.copytree(models[2], tmp_path / "pushed" / "1")
    tf.saved_model.save(tf.Module(), str(other))
    decision = push(models[5])
    assert (decision.version, decision.champion_version) == ("2", "1")
    assert "cannot be scored" in decision.reason and "has the signatures []" in decision.reason


_OUT_OF_REACH = [
    tf.errors.UnavailableError(None, None, "503"),
    tf.errors.DeadlineExceededError(None, None, "timed out"),
    tf.errors.ResourceExhaustedError(None, None, "out of memory"),
    tf.errors.PermissionDeniedError(None, None, "403"),
    tf.errors.OpError(None, None, "of weights: HTTP response code 503", tf.errors.UNKNOWN),
    tf.errors.DataLossError(None, None, "Unable to open table file variables: Permission denied"),
    PermissionError(13, "Permission denied"),
    TimeoutError("timed out"),
    MemoryError(),
]


@pytest.mark.parametrize("error", _OUT_OF_REACH, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("moment", ["loading", "scoring"])
def test_champion_that_is_out_of_reach_keeps_its_place_and_the_push_can_be_repeated(
    moment, error, push, models, tmp_path, monkeypatch
):
    push(models[2])
    before = listing(tmp_path / "pushed")
    module, name = (scoring.tf.saved_model, "load") if moment == "loading" else (subject, "score")
    work, calls = getattr(module, name), []

    def work_for_the_candidate_only(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise error
        return work(*arguments)

    monkeypatch.setattr(module, name, work_for_the_candidate_only)
    with pytest.raises(type(error)):
        push(models[5])
    assert listing(tmp_path / "pushed") == before
    decision = push(models[5])
    assert (decision.blessed, decision.champion_top1) == (False, 0.9)


def test_champion_with_other_classes_is_compared_by_their_names_and_the_reason_tells_them(push, models, tmp_path):
    push(save_model(tmp_path / "other", mistakes=0, classes=["ant", "bee", "dog"]))
    decision = push(models[5])
    assert (decision.blessed, decision.candidate_top1, decision.champion_top1) == (True, 0.75, 0.7)
    assert "only the champion knows 'dog', only the new model knows 'cat';" in decision.reason


def test_worse_model_with_a_misspelt_class_more_is_kept_back(push, models, tmp_path):
    push(models[2])
    decision = push(save_model(tmp_path / "misspelt", mistakes=4, classes=[*CLASSES, "Cat"]))
    assert (decision.blessed, decision.candidate_top1, decision.champion_top1) == (False, 0.8, 0.9)
    assert decision.reason.startswith("Kept back: top-1 0.8000 on 20 test images against 0.9000")
    assert "Their classes differ: only the new model knows 'Cat';" in decision.reason
    assert events(tmp_path)[-1] == ("kept back", 1, 1)


def test_model_that_is_good_on_a_new_class_wins_the_comparison(push, models, tmp_path):
    push(models[2])
    grown = [*CLASSES, "dog"]
    split = write_test_split(tmp_path / "grown", n_images=40, classes=grown)
    model = save_model(tmp_path / "new", mistakes=4, classes=grown)
    decision = push(model, judged_by="interval", test_split=split)
    assert (decision.version, decision.candidate_top1, decision.champion_top1) == ("2", 0.9, 0.7)
    assert (decision.comparison.won, decision.comparison.lost) == (9, 1)
    assert "Their classes differ: only the new model knows 'dog';" in decision.reason
    told = json.loads((tmp_path / "pushed" / "HISTORY.jsonl").read_text().splitlines()[-1])
    assert told["comparison"]["champion_top1"] == 0.7


def test_champion_that_shares_no_class_is_compared_too(push, models, tmp_path):
    push(models[5])
    decision = push(save_model(tmp_path / "other", mistakes=0, classes=["x", "y", "z"]))
    assert (decision.blessed, decision.candidate_top1, decision.champion_top1) == (False, 0.0, 0.75)


def test_champion_with_the_same_classes_in_another_order_is_compared(push, models, tmp_path):
    push(save_model(tmp_path / "other", mistakes=0, classes=CLASSES[::-1]))
    assert push(models[5]).champion_top1 == pytest.approx(7 / N_IMAGES)


def test_version_of_another_tool_counts_as_already_pushed(push, models, tmp_path):
    shutil.copytree(models[4], tmp_path / "pushed" / "1700000000")
    assert push(models[4]).version == "1700000000"
    assert push(models[2]).version == "1700000001"


def test_candidate_without_class_names_is_refused(push, models, tmp_path):
    broken = shutil.copytree(models[4], tmp_path / "broken")
    (broken / "assets.extra" / "classes.json").unlink()
    with pytest.raises(ValueError, match="A pushed model is a SavedModel whose signature serving_default"):
        push(str(broken))


def test_candidate_with_fewer_names_than_probabilities_is_refused(push, models, tmp_path):
    broken = shutil.copytree(models[4], tmp_path / "broken")
    (broken / "assets.extra" / "classes.json").write_text(json.dumps(["ant"]))
    with pytest.raises(ValueError, match="3 probabilities for 1 classes"):
        push(str(broken))


def test_missing_model_is_refused(push, tmp_path):
    with pytest.raises(ValueError, match=r"has no saved_model\.pb"):
        push(str(tmp_path / "nothing"))


def test_empty_test_split_is_refused(models, tmp_path):
    with pytest.raises(ValueError, match=r"holds none\. Add a test split"):
        push_model(
            models[4],
            blessed=True,
            test_split_uri=write_test_split(tmp_path / "empty", n_images=0),
            destination=str(tmp_path / "pushed"),
            rule=Rule(0.0),
        )


def test_loss_that_cannot_be_ruled_out_keeps_the_model_back_and_says_what_would_help(push, models):
    push(models[4])
    decision = push(models[5], max_regression=0.1, judged_by="interval")
    assert (decision.blessed, decision.comparison.difference) == (False, pytest.approx(-0.05))
    low, high = decision.comparison.difference_interval
    assert low < -0.1 < high
    assert "0.1000 that max_regression allows cannot be ruled out" in decision.reason
    assert "gate.judged_by=estimate" in decision.reason


def test_loss_that_is_ruled_out_lets_the_model_pass_with_its_interval(push, models):
    push(models[4])
    decision = push(models[2], max_regression=0.1, judged_by="interval")
    assert decision.version == "2"
    assert (decision.comparison.won, decision.comparison.lost) == (2, 0)
    low, high = decision.comparison.difference_interval
    assert f"better by 0.1000 (95% interval {low:+.4f} to {high:+.4f}" in decision.reason


def test_every_decision_is_a_line_of_history_and_a_repeated_one_is_none(push, models, tmp_path):
    push(models[4])
    push(models[5])
    push(models[5])
    push(models[4])
    push(models[2])
    assert events(tmp_path) == [("promoted", None, 1), ("kept back", 1, 1), ("promoted", 1, 2)]
    last = json.loads((tmp_path / "pushed" / "HISTORY.jsonl").read_text().splitlines()[-1])
    assert (last["candidate_top1"], last["champion_top1"]) == (0.9, 0.8)
    assert last["candidate"] == fingerprint(models[2])
    assert last["comparison"]["difference"] == pytest.approx(0.1)


def test_other_test_set_than_the_champions_is_told_and_both_are_scored_on_it(push, models, tmp_path):
    push(models[4])
    assert push(models[5]).test_set_changed is False
    more = write_test_split(tmp_path / "more", n_images=40)
    decision = push(models[2], test_split=more)
    assert decision.test_set_changed is True
    assert "are not those of the day when version 1 was pushed" in decision.reason
    assert (decision.candidate_top1, decision.champion_top1) == (0.95, 0.9)


@pytest.mark.parametrize("change", ["key", "label", "content"])
def test_digest_of_the_test_set_sees_keys_labels_and_contents(change, models, labelled, tmp_path, monkeypatch):
    classifier = load_classifier(models[4])
    before = score(classifier, labelled).test_set
    assert score(classifier, write_test_split(tmp_path / "same")).test_set == before
    classes = ["ant", "cat", "bee"] if change == "label" else CLASSES
    if change == "content":
        monkeypatch.setattr("push_saved_models.image", lambda index, rank: bytes([index, rank + 100]))
    key = "other-{}".format if change == "key" else "image-{}".format
    assert score(classifier, write_test_split(tmp_path / "changed", key=key, classes=classes)).test_set != before


def test_test_split_that_changes_between_the_two_is_refused(push, models, labelled, tmp_path, monkeypatch):
    push(models[4])
    splits = iter([labelled, write_test_split(tmp_path / "fewer", n_images=19)])
    monkeypatch.setattr(subject, "score", lambda classifier, _: score(classifier, next(splits)))
    with pytest.raises(ValueError, match=r"scored on the same images.*\(20 images, then 19\)"):
        push(models[2])


def test_two_test_images_of_one_key_are_refused(push, models, tmp_path):
    with pytest.raises(ValueError, match=r"keys of their own.*\['same'\]"):
        push(models[4], test_split=write_test_split(tmp_path / "twice", key=lambda _: "same"))
