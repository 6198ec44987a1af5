import csv
import signal
import subprocess
import sys
from pathlib import Path

import killed_training
import numpy as np
import pytest
import tensorflow as tf

from trainer import loop
from trainer.config import OptimizerConfig


class KilledError(Exception):
    pass


def kill_at(step):
    def hook(number):
        if number == step:
            raise KilledError

    return hook


def without_speed(rows):
    return [{name: value for name, value in row.items() if name != "images_per_s"} for row in rows]


def assert_same_training(ours, expected):
    for value, other in zip(ours[0], expected[0], strict=True):
        np.testing.assert_array_equal(value, other)
    assert without_speed(ours[1].rows) == without_speed(expected[1].rows)


@pytest.fixture(scope="module")
def uninterrupted():
    return killed_training.run()


@pytest.mark.parametrize("optimizer", ["lars", "sgd", "adamw"])
def test_train_resumed_from_its_checkpoint_equals_one_training_bit_for_bit(tmp_path, optimizer):
    with pytest.raises(KilledError):
        killed_training.run(str(tmp_path), optimizer=optimizer, step_hook=kill_at(6))
    first_batches = []
    resumed = killed_training.run(str(tmp_path), optimizer=optimizer, step_hook=first_batches.append)
    assert first_batches[0] == 4, "it went on from its checkpoint, not from the start"
    assert_same_training(resumed, killed_training.run(optimizer=optimizer))


@pytest.mark.parametrize("moment", ["between checkpoints", "history written, checkpoint not"])
def test_train_killed_process_is_resumed_bit_for_bit(tmp_path, uninterrupted, moment):
    command = [sys.executable, killed_training.__file__, str(tmp_path), moment]
    died = subprocess.run(command, cwd=Path(loop.__file__).parents[1], capture_output=True, text=True, timeout=120)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert_same_training(killed_training.run(str(tmp_path)), uninterrupted)


def test_train_half_written_checkpoint_is_not_taken(tmp_path, uninterrupted):
    with pytest.raises(KilledError):
        killed_training.run(str(tmp_path), step_hook=kill_at(6))
    # What a kill leaves of the next one: files that no state file names yet.
    (tmp_path / "ckpt-8.data-00000-of-00001").write_bytes(b"\0" * 100)
    (tmp_path / "ckpt-8.index").write_bytes(b"half")
    assert_same_training(killed_training.run(str(tmp_path)), uninterrupted)


def test_train_finished_training_takes_no_more_steps(tmp_path, uninterrupted):
    killed_training.run(str(tmp_path))
    again = killed_training.run(str(tmp_path), step_hook=kill_at(0))
    assert_same_training(again, uninterrupted)


def test_train_checkpoint_of_another_network_is_refused(tmp_path):
    killed_training.run(str(tmp_path), optimizer="lars")
    with pytest.raises((AssertionError, ValueError)):
        killed_training.run(str(tmp_path), optimizer="adamw")


def test_train_resumed_history_is_written_like_an_uninterrupted_one(tmp_path, uninterrupted):
    with pytest.raises(KilledError):
        killed_training.run(str(tmp_path / "checkpoints"), step_hook=kill_at(6))
    _, resumed = killed_training.run(str(tmp_path / "checkpoints"))
    written = []
    for name, history in (("resumed", resumed), ("whole", uninterrupted[1])):
        history.write(str(tmp_path / name))
        with open(tmp_path / name) as file:
            written.append(without_speed(csv.DictReader(file)))
    assert written[0] == written[1]
    assert [row["step"] for row in written[0]] == [str(step) for step in range(1, 13)]
    assert [row["epoch"] for row in written[0]][3::4] == ["1.0", "2.0", "3.0"]


def test_train_old_checkpoints_are_removed(tmp_path):
    killed_training.run(str(tmp_path), checkpoint_every_steps=2)
    assert sorted(path.name for path in tmp_path.glob("*.index")) == ["ckpt-10.index", "ckpt-12.index"]


def test_train_reports_its_progress():
    seen = []
    killed_training.run(report=seen.append)
    assert [progress.step for progress in seen] == list(range(1, 13))
    assert all(progress.total_steps == 12 and progress.images_per_s > 0 for progress in seen)
    assert seen[0].metrics.keys() == {"step", "epoch", "loss", "learning_rate"}


def losses_become_nan(*, at, total_steps, checkpoint_dir=None, checkpoint_every_steps=1):
    variable = tf.Variable(1.0)
    config = OptimizerConfig(name="sgd", learning_rate=0.1)
    optimizer = loop.build_optimizer(config, [variable], total_steps=total_steps)

    def step(number):
        optimizer.apply_gradients([(tf.constant(0.0), variable)])
        return {"loss": tf.constant(float("nan") if number >= at else 1.0)}

    return loop.train(
        step,
        lambda first_step: range(first_step + 1, total_steps + 1),
        trackables={"variable": variable},
        optimizer=optimizer,
        total_steps=total_steps,
        steps_per_epoch=10,
        batch_size=1,
        checkpoint_dir=checkpoint_dir,
        checkpoint_every_steps=checkpoint_every_steps,
    )


def test_train_loss_that_is_not_finite_stops_it_with_step_and_remedy():
    with pytest.raises(FloatingPointError, match="nan at step 3: lower the learning rate"):
        losses_become_nan(at=3, total_steps=10)


def test_train_loss_that_is_not_finite_between_logged_steps_is_never_checkpointed(tmp_path):
    # 600 steps are logged at every third; the checkpoint of step 4 comes before the next of those.
    with pytest.raises(FloatingPointError, match="at step 4"):
        losses_become_nan(at=4, total_steps=600, checkpoint_dir=str(tmp_path), checkpoint_every_steps=2)
    assert tf.train.latest_checkpoint(str(tmp_path)).endswith("ckpt-2")


def test_train_long_training_logs_two_hundred_points_and_the_last():
    history = losses_become_nan(at=10**9, total_steps=1001)
    steps = [row["step"] for row in history.rows]
    assert steps == [*range(5, 1001, 5), 1001]


def test_train_writes_tensorboard_events(tmp_path):
    variable = tf.Variable(1.0)
    optimizer = loop.build_optimizer(OptimizerConfig(name="sgd", learning_rate=0.1), [variable], total_steps=2)
    loop.train(
        lambda number: {"loss": tf.constant(float(number))},
        lambda first_step: range(1, 3),
        trackables={},
        optimizer=optimizer,
        total_steps=2,
        steps_per_epoch=1,
        batch_size=1,
        log_dir=str(tmp_path),
    )
    events = [
        (event.step, value.tag, float(tf.make_ndarray(value.tensor)))
        for path in tmp_path.iterdir()
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    ]
    assert {event for event in events if event[1] == "loss"} == {(1, "loss", 1.0), (2, "loss", 2.0)}


@pytest.mark.parametrize("name", ["lars", "sgd", "adamw"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_build_optimizer_decays_kernels_and_nothing_else(name, weight_decay):
    kernel, gamma = tf.Variable(tf.fill([2, 2], 3.0)), tf.Variable(tf.fill([2], 3.0))
    config = OptimizerConfig(name=name, learning_rate=0.5, weight_decay=weight_decay)
    optimizer = loop.build_optimizer(config, [kernel, gamma], total_steps=10)
    # Without a gradient, decay is all that can move a variable.
    optimizer.apply_gradients([(tf.zeros_like(variable), variable) for variable in (kernel, gamma)])
    np.testing.assert_array_equal(gamma, [3, 3])
    assert (kernel.numpy() < 3).all() == (weight_decay > 0)
    assert (kernel.numpy() == 3).all() == (weight_decay == 0)


@pytest.mark.parametrize("name", ["lars", "sgd", "adamw"])
def test_build_optimizer_follows_warmup_and_cosine(name):
    variable = tf.Variable([1.0])
    config = OptimizerConfig(name=name, learning_rate=2.0, warmup_share=0.2)
    optimizer = loop.build_optimizer(config, [variable], total_steps=10)
    rates = []
    for _ in range(10):
        optimizer.apply_gradients([(tf.ones_like(variable), variable)])
        rates.append(float(optimizer.learning_rate))  # that of the step just taken
    assert rates[:3] == pytest.approx([1.0, 2.0, 2.0])
    assert rates[6] == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(1 + np.cos(np.pi * 7 / 8), abs=1e-5)


def test_build_optimizer_sgd_takes_nesterov_steps():
    variable = tf.Variable([0.0])
    optimizer = loop.build_optimizer(OptimizerConfig(name="sgd", learning_rate=1.0), [variable], total_steps=10**6)
    optimizer.apply_gradients([(tf.constant([1.0]), variable)])
    # v = −1, and the step looks ahead: 0.9·v − 1
    np.testing.assert_allclose(variable, [-1.9], rtol=1e-5)
