"""A model on gs://: its training is killed and goes on, it is exported, pushed, and the run summed up."""

import csv
import json
import signal

import pytest

_BUCKET = "models"
_ROOT = f"gs://{_BUCKET}"


@pytest.fixture(scope="module")
def ran(object_store):
    object_store.client.create_bucket(_BUCKET)
    return object_store.run(_ROOT, "kill", "resume", "export_and_load", "push", "summarise")


def _names(object_store, folder):
    """Files below a folder; to TensorFlow an object that ends with a slash is a folder."""
    names = object_store.names(_BUCKET, f"{folder}/")
    return [name.removeprefix(f"{folder}/") for name in names if not name.endswith("/")]


def _files(object_store, folder):
    return {name: object_store.read(_BUCKET, f"{folder}/{name}") for name in _names(object_store, folder)}


def _checkpoints(names):
    return [name for name in names if name.startswith("ckpt-")]


def _files_of(*steps):
    return [f"ckpt-{step}.{part}" for step in steps for part in ("data-00000-of-00001", "index")]


def test_killed_training_leaves_its_last_checkpoints_whole_and_its_identity(ran):
    assert ran["kill"]["exit_code"] == -signal.SIGKILL
    assert _checkpoints(ran["kill"]["left"]) == _files_of(5, 6)
    assert {"checkpoint", "history.csv", "identity.json"} <= set(ran["kill"]["left"])


def test_killed_training_goes_on_bit_for_bit_and_replaces_the_checkpoints(ran, object_store):
    assert ran["resume"] == {"first_batch": 6, "last_step": 12}
    assert _checkpoints(_names(object_store, "checkpoints")) == _files_of(12, 8)
    assert b'model_checkpoint_path: "ckpt-12"' in object_store.read(_BUCKET, "checkpoints/checkpoint")


def test_resumed_training_leaves_one_history_its_identity_and_tensorboards_events(ran, object_store):
    rows = csv.DictReader(object_store.read(_BUCKET, "checkpoints/history.csv").decode().splitlines())
    assert [int(row["step"]) for row in rows] == list(range(1, 13))
    assert json.loads(object_store.read(_BUCKET, "checkpoints/identity.json")) == {"seed": 1}
    assert not [name for name in object_store.names(_BUCKET) if name.endswith(".partial")]
    (events,) = [name for name in object_store.names(_BUCKET, "logs/") if "tfevents" in name]
    assert b"loss" in object_store.read(_BUCKET, events)


def test_exported_model_is_on_the_store_and_loads_as_the_network_that_it_was(ran, object_store):
    result = ran["export_and_load"]
    assert result["classes"] == ["cat", "frog", "ship"]
    assert [sum(row) for row in result["probabilities"]] == pytest.approx([1, 1])
    assert _names(object_store, "model") == [
        "assets.extra/classes.json",
        "assets.extra/classifier.json",
        "assets.extra/classifier.safetensors",
        "fingerprint.pb",
        "saved_model.pb",
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
    ]


def test_model_pushed_twice_is_one_version(ran):
    first, again, _ = ran["push"]["decisions"]
    assert (first["version"], first["pushed"]) == ("1", f"gs://{_BUCKET}/pushed/1")
    assert first["candidate_top1"] == pytest.approx(0.75)
    assert {**again, "reason": None} == {**first, "reason": None}
    assert again["reason"] == first["reason"].replace("Pushed as", "Already pushed as")


def test_half_written_version_is_not_taken_and_its_number_not_used_again(ran, object_store):
    assert ran["push"]["after_the_break"] == {"versions": [1], "champion": 1, "found": None}
    whole, half = (set(_names(object_store, f"pushed/{version}")) for version in (1, 2))
    assert whole - half == {"saved_model.pb"} and half < whole
    assert ran["push"]["decisions"][-1]["version"] == "3"


def test_better_model_met_the_champion_and_is_it_now(ran, object_store):
    better = ran["push"]["decisions"][-1]
    assert (better["candidate_top1"], better["champion_top1"]) == (pytest.approx(0.9), pytest.approx(0.75))
    assert object_store.read(_BUCKET, "pushed/CHAMPION") == b"3\n"
    history = [json.loads(line) for line in object_store.read(_BUCKET, "pushed/HISTORY.jsonl").splitlines()]
    assert [(entry["event"], entry["former"], entry["champion"]) for entry in history] == [
        ("promoted", None, 1),
        ("promoted", 1, 3),
    ]


@pytest.mark.parametrize(("version", "mistakes"), [(1, 5), (3, 2)])
def test_version_on_the_store_is_the_model_and_its_fingerprint(ran, object_store, version, mistakes):
    pushed, model = _files(object_store, f"pushed/{version}"), _files(object_store, f"models/{mistakes}")
    assert len(pushed.pop("assets.extra/fingerprint.sha256")) == 64
    assert json.loads(pushed.pop("assets.extra/push/record.json"))["candidate_top1"] == pytest.approx(
        1 - mistakes / 20
    )
    assert pushed == model and "saved_model.pb" in model


@pytest.fixture(scope="module")
def rivals(object_store):
    object_store.client.create_bucket("rivals")
    return object_store.run("gs://rivals", "rival_pushes")["rival_pushes"]


def test_push_that_another_overtakes_decides_again_and_meets_its_champion(rivals):
    lost, won = rivals["better-between"], rivals["worse-between"]
    assert (lost["champion"], lost["told"]) == (4, [["promoted", 2, 4], ["kept back", 4, 4]])
    assert lost["decision"]["reason"].startswith("Kept back: top-1 0.8000 on 20 test images against 0.9000 of the")
    assert (won["champion"], won["told"]) == (3, [["promoted", 2, 4], ["promoted", 4, 3]])
    assert (won["decision"]["champion_version"], won["decision"]["version"]) == ("4", "3")


def test_push_that_has_moved_the_pointer_and_not_told_it_is_told_once_and_in_its_place(rivals):
    pushed = rivals["behind-the-pointer"]
    assert (pushed["champion"], pushed["told"]) == (4, [["promoted", 2, 3], ["promoted", 3, 4]])
    for name in ("rollback-behind-the-pointer", "line-between"):
        rolled_back = rivals[name]
        assert (rolled_back["champion"], rolled_back["told"]) == (3, [["rolled back", 2, 1], ["promoted", 1, 3]])


def test_model_that_is_kept_back_meets_the_champion_that_another_push_made_meanwhile(rivals):
    kept = rivals["kept-back"]
    assert (kept["champion"], kept["told"]) == (3, [["promoted", 2, 3], ["kept back", 3, 3]])
    assert kept["decision"]["champion_version"] == "3"


def test_push_decides_again_where_somebody_moves_the_pointer_by_hand(rivals):
    for name, event in (("rolled-back-between", "rolled back"), ("promoted-between", "promoted")):
        moved = rivals[name]
        assert (moved["champion"], moved["told"]) == (3, [[event, 2, 1], ["promoted", 1, 3]])
        assert moved["decision"]["champion_version"] == "1"


def test_decisions_told_at_once_are_all_told(rivals):
    assert rivals["all-appended"]


def test_summary_of_a_run_is_on_the_store(ran, object_store):
    summary = json.loads(object_store.read(_BUCKET, "summaries/simclr-1.json"))
    assert (summary["succeeded"], summary["configuration"]) == (True, "seed: 1\n")
    assert [row["top1"] for row in summary["results"]["accuracies"]] == [0.5]
    assert (summary["unread"], summary["links"]["report"].partition("://")[0]) == ([], "gs")
