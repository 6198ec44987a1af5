import json
import os

import killed_training
import pytest
import tensorflow as tf
from killed_training import KilledError, assert_same_training, kill_at

from trainer import checkpoints
from trainer.config import OptimizerConfig, PretrainConfig
from trainer.history import History

IDENTITY = {"temperature": 0.2, "optimizer": {"name": "lars", "learning_rate": 1.0}, "blocks": (1, 2), "seed": 3}


def saver_of(directory, *, value=0.0, identity=None, kept=2, shape=()):
    variable = tf.Variable(tf.fill(shape, value))
    saving = checkpoints.Saving(str(directory), every_steps=1, kept=kept, identity=identity)
    return checkpoints.Checkpoints(saving, {"variable": variable}), variable


def saved(directory, *, steps=(4, 8), **settings):
    saver, variable = saver_of(directory, **settings)
    history = History()
    saver.restore(history)
    for step in steps:
        variable.assign(float(step))
        history.rows.append({"step": step, "loss": 1.0 / step})
        saver.save(step, history)


def restored(directory, **settings):
    saver, variable = saver_of(directory, **settings)
    history = History()
    done = saver.restore(history)
    return done, variable.numpy(), [row["step"] for row in history.rows]


def break_file(path, *, how):
    content = path.read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "flipped":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :])
    else:
        path.write_bytes(content[: how if how >= 0 else len(content) + how])


@pytest.mark.parametrize("how", ["gone", "flipped", 0, 3, -1])
@pytest.mark.parametrize("part", ["index", "data-00000-of-00001"])
def test_restore_broken_newest_checkpoint_gives_the_one_before_and_says_so(tmp_path, caplog, part, how):
    saved(tmp_path)
    assert restored(tmp_path) == (8, 8.0, [4, 8]) and not caplog.records
    break_file(tmp_path / f"ckpt-8.{part}", how=how)
    assert restored(tmp_path) == (4, 4.0, [4])
    (record,) = caplog.records
    assert "ckpt-8 cannot be read, the one before is taken" in record.getMessage()


def test_restore_broken_newest_checkpoint_training_ends_like_an_unbroken_one(tmp_path):
    with pytest.raises(KilledError):
        killed_training.run(str(tmp_path), batch_hook=kill_at(10))
    break_file(tmp_path / "ckpt-8.data-00000-of-00001", how=-1)
    assert_same_training(killed_training.run(str(tmp_path)), killed_training.run())


def test_restore_all_checkpoints_broken_is_an_error_and_no_silent_start(tmp_path):
    saved(tmp_path)
    for step in (4, 8):
        break_file(tmp_path / f"ckpt-{step}.index", how=0)
    with pytest.raises(ValueError, match=f"none of the 2 checkpoints in {tmp_path} can be read: remove"):
        restored(tmp_path)


def test_restore_another_network_is_refused_and_not_taken_for_broken(tmp_path):
    saved(tmp_path)
    with pytest.raises(ValueError, match="ckpt-8 is of another network or optimiser: choose another directory"):
        restored(tmp_path, shape=(3,))


@pytest.mark.parametrize("kept", [1, 3])
def test_save_keeps_the_newest(tmp_path, kept):
    saved(tmp_path, steps=range(1, 6), kept=kept)
    names = sorted(path.name for path in tmp_path.glob("*.index"))
    assert names == [f"ckpt-{step}.index" for step in range(6 - kept, 6)]


def test_save_of_steps_that_are_saved_writes_nothing(tmp_path):
    saved(tmp_path, steps=(4,))
    before = {path: os.stat(path).st_mtime_ns for path in tmp_path.iterdir()}
    saver, _ = saver_of(tmp_path)
    saver.save(saver.restore(History()), History())
    assert {path: os.stat(path).st_mtime_ns for path in tmp_path.iterdir()} == before


def test_restore_same_identity_goes_on(tmp_path):
    saved(tmp_path, identity=IDENTITY)
    assert restored(tmp_path, identity=json.loads(json.dumps(IDENTITY)))[0] == 8


def test_restore_other_settings_are_refused_field_by_field_with_both_values_and_the_remedy(tmp_path):
    saved(tmp_path, identity=IDENTITY)
    other = {"temperature": 0.5, "optimizer": {"name": "lars", "learning_rate": 2.0}, "blocks": (1, 3), "extra": None}
    with pytest.raises(ValueError) as refusal:
        restored(tmp_path, identity=other)
    assert str(refusal.value).splitlines() == [
        f"the checkpoints in {tmp_path} are of another training:",
        "  blocks: [1, 2] there, [1, 3] here",
        "  extra: absent there, null here",
        "  optimizer.learning_rate: 1.0 there, 2.0 here",
        "  seed: 3 there, absent here",
        "  temperature: 0.2 there, 0.5 here",
        "give these settings their old values, or choose another directory",
    ]
    # The refusal has changed nothing.
    assert restored(tmp_path, identity=IDENTITY)[0] == 8


def test_restore_checkpoints_without_identity_are_refused(tmp_path):
    saved(tmp_path)
    with pytest.raises(ValueError, match=r"temperature: absent there, 0\.2 here"):
        restored(tmp_path, identity=IDENTITY)


def test_restore_without_checkpoints_any_identity_starts(tmp_path):
    saved(tmp_path, steps=(), identity=IDENTITY)
    other = IDENTITY | {"seed": 4}
    saved(tmp_path, steps=(4,), identity=other)
    assert restored(tmp_path, identity=other)[0] == 4


@pytest.mark.parametrize(
    ("changed", "refused"),
    [
        ({"checkpoint_every_steps": 7}, False),
        ({"kept_checkpoints": 7}, False),
        ({"diagnostics": {"every_steps": 3, "images": 8}}, False),
        ({"compute": {"strategy": "mirrored", "jit_compile": True}}, False),
        ({"compute": {"precision": "mixed_bfloat16"}}, True),
        ({"epochs": 41}, True),
        ({"optimizer": OptimizerConfig(learning_rate=2.0)}, True),
    ],
)
def test_differences_lists_all_settings_but_the_free_ones(changed, refused):
    ours = PretrainConfig().model_dump(mode="json")
    changed = PretrainConfig.model_validate(changed).model_dump(mode="json")
    assert bool(checkpoints.differences(ours, ours | changed)) == refused


def test_free_settings_are_settings():
    """A renamed field must not leave its old name here."""
    dump = PretrainConfig().model_dump()
    for name in checkpoints.FREE_SETTINGS:
        value = dump
        for part in name.split("."):
            value = value[part]
