import csv
import json
import os
import random
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import killed_training
import numpy as np
import pytest
import replicated_training
import tensorflow as tf
from killed_training import KilledError, assert_same_training, kill_at, without_speed

from trainer import checkpoints, loop
from trainer.config import OptimizerConfig


@pytest.fixture(scope="module")
def uninterrupted():
    return killed_training.run()


@pytest.mark.parametrize("optimizer", ["lars", "sgd", "adamw"])
def test_train_resumed_from_its_checkpoint_equals_one_training_bit_for_bit(tmp_path, optimizer):
    with pytest.raises(KilledError):
        killed_training.run(str(tmp_path), optimizer=optimizer, batch_hook=kill_at(6))
    first_batches = []
    resumed = killed_training.run(str(tmp_path), optimizer=optimizer, batch_hook=first_batches.append)
    assert first_batches[0] == 4, "it went on from its checkpoint, not from the start"
    assert_same_training(resumed, killed_training.run(optimizer=optimizer))


# Other steps in each run of the tests, and the same ones in all of its worker processes.
DRAWS = random.Random(os.environ.get("PYTEST_XDIST_TESTRUNUID", "alone"))
RANDOM_STEP = str(DRAWS.randrange(1, killed_training.TOTAL_STEPS))
MOMENTS = [RANDOM_STEP, "checkpoint written, not yet named"]


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A directory for each moment at which a training in a process of its own was killed."""
    root = Path(loop.__file__).parents[1]
    directories = {moment: tmp_path_factory.mktemp("killed") for moment in MOMENTS}
    processes = {
        moment: subprocess.Popen(
            [sys.executable, killed_training.__file__, str(directory), moment],
            cwd=root,
            env=os.environ | {"PYTHONPATH": str(root)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for moment, directory in directories.items()
    }
    for process in processes.values():
        _, errors = process.communicate(timeout=300)
        assert process.returncode == -signal.SIGKILL, errors
    return directories


@pytest.mark.parametrize("moment", MOMENTS)
def test_train_killed_process_is_resumed_bit_for_bit(killed, uninterrupted, moment):
    assert_same_training(killed_training.run(str(killed[moment])), uninterrupted)


def test_train_killed_between_history_and_checkpoint_is_resumed_bit_for_bit(tmp_path, uninterrupted, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.History, "write", dying_after(checkpoints.History.write, calls=2))
        with pytest.raises(KilledError):
            killed_training.run(str(tmp_path))
    assert tf.train.latest_checkpoint(str(tmp_path)).endswith("ckpt-4")
    assert_same_training(killed_training.run(str(tmp_path)), uninterrupted)


def dying_after(write, *, calls):
    made = []

    def dying_write(*arguments):
        write(*arguments)
        made.append(arguments)
        if len(made) == calls:
            raise KilledError

    return dying_write


def sigterm_at(step):
    return lambda number: os.kill(os.getpid(), signal.SIGTERM) if number == step else None


@pytest.mark.parametrize("step", DRAWS.sample(range(killed_training.TOTAL_STEPS - 1), 2))
def test_train_sigterm_finishes_the_step_saves_and_is_resumed_bit_for_bit(tmp_path, uninterrupted, step):
    with pytest.raises(loop.PreemptedError, match=f"after step {step + 1} of 12, which is saved in {tmp_path}"):
        killed_training.run(str(tmp_path), batch_hook=sigterm_at(step))
    first_batches = []
    resumed = killed_training.run(str(tmp_path), batch_hook=first_batches.append)
    assert first_batches[0] == step + 1
    assert_same_training(resumed, uninterrupted)


def test_train_sigterm_at_the_last_step_is_the_end_of_the_training(tmp_path, uninterrupted):
    assert_same_training(killed_training.run(str(tmp_path), batch_hook=sigterm_at(11)), uninterrupted)


def test_train_gives_the_signal_back_as_it_found_it(tmp_path):
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append("outer"))
    try:
        killed_training.run(str(tmp_path / "whole"))
        with pytest.raises(KilledError):
            killed_training.run(str(tmp_path / "killed"), batch_hook=kill_at(3))
        killed_training.run(batch_hook=sigterm_at(3))  # without checkpoints there is nothing to save
        assert heard == ["outer"]
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard == ["outer", "outer"]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_train_outside_the_main_thread_leaves_signals_alone(tmp_path, uninterrupted):
    with ThreadPoolExecutor(1) as thread:
        ours = thread.submit(killed_training.run, str(tmp_path)).result()
    assert_same_training(ours, uninterrupted)


def test_train_half_written_checkpoint_is_not_taken(tmp_path, uninterrupted):
    with pytest.raises(KilledError):
        killed_training.run(str(tmp_path), batch_hook=kill_at(6))
    # What a kill leaves of the next one: files that no state file names yet.
    (tmp_path / "ckpt-8.data-00000-of-00001").write_bytes(b"\0" * 100)
    (tmp_path / "ckpt-8.index").write_bytes(b"half")
    assert_same_training(killed_training.run(str(tmp_path)), uninterrupted)


def test_train_finished_training_takes_no_more_steps(tmp_path, uninterrupted):
    killed_training.run(str(tmp_path))
    again = killed_training.run(str(tmp_path), batch_hook=kill_at(0))
    assert_same_training(again, uninterrupted)


def test_train_checkpoint_of_another_network_is_refused(tmp_path):
    killed_training.run(str(tmp_path), optimizer="lars")
    with pytest.raises((AssertionError, ValueError)):
        killed_training.run(str(tmp_path), optimizer="adamw")


def test_train_resumed_history_is_written_like_an_uninterrupted_one(tmp_path, uninterrupted):
    with pytest.raises(KilledError):
        killed_training.run(str(tmp_path / "checkpoints"), batch_hook=kill_at(6))
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
    killed_training.run(str(tmp_path), every_steps=2)
    assert sorted(path.name for path in tmp_path.glob("*.index")) == ["ckpt-10.index", "ckpt-12.index"]


def test_train_reports_its_progress():
    seen = []
    killed_training.run(report=seen.append)
    assert [progress.step for progress in seen] == list(range(1, 13))
    assert all(progress.total_steps == 12 and progress.images_per_s > 0 for progress in seen)
    assert seen[0].metrics.keys() == {"step", "epoch", "loss", "learning_rate"}


def test_train_speed_and_waiting_are_those_after_the_first_step(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])

    def batches(first_step, _):
        for number in range(12):
            now[0] += 100.0 if number == 0 else 1.0  # the input takes a second a step
            yield killed_training.batch_of(number)

    def compute(done, row):
        now[0] += 100.0 if done == 1 else 3.0

    history = train_on(batches, watch=compute)
    assert [row["input_wait_share"] for row in history.rows[2:4]] == [0.4, pytest.approx(3 / 9, abs=1e-4)]
    assert history.rows[2]["images_per_s"] == pytest.approx(2 * 3 / 5, abs=0.05)


def train_on(batches, *, step=lambda batch: {"loss": tf.reduce_mean(batch["x"])}, total_steps=12, **settings):
    variable = tf.Variable(1.0)
    config = OptimizerConfig(name="sgd", learning_rate=0.1)
    optimizer = loop.build_optimizer(config, [variable], batch_size=1, total_steps=total_steps)
    return loop.train(
        step,
        batches,
        trackables={},
        optimizer=optimizer,
        total_steps=total_steps,
        steps_per_epoch=4,
        batch_size=3,
        **settings,
    )


def test_train_batches_that_end_too_early_are_an_error():
    with pytest.raises(ValueError, match="ended after step 5 of 12"):
        train_on(lambda *_: map(killed_training.batch_of, range(5)))


def test_train_step_is_compiled_where_told():
    def step(batch):  # XLA has no strings
        return {"loss": tf.strings.to_number(tf.strings.as_string(tf.reduce_mean(batch["x"])))}

    train_on(lambda *_: map(killed_training.batch_of, range(12)), step=step)
    with pytest.raises(tf.errors.InvalidArgumentError, match="unsupported operations"):
        train_on(lambda *_: map(killed_training.batch_of, range(12)), step=step, jit_compile=True)
    compiled = train_on(lambda *_: map(killed_training.batch_of, range(12)), jit_compile=True)
    plain = train_on(lambda *_: map(killed_training.batch_of, range(12)))
    assert [row["loss"] for row in compiled.rows] == pytest.approx([row["loss"] for row in plain.rows], abs=1e-6)


def test_train_watch_sees_every_step_and_the_logged_rows():
    seen = []
    history = train_on(
        lambda *_: (killed_training.batch_of(0) for _ in range(401)),
        total_steps=401,
        watch=lambda done, row: seen.append((done, row)),
    )
    assert [done for done, _ in seen] == list(range(1, 402))
    assert [row["step"] for _, row in seen if row] == [row["step"] for row in history.rows]


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    directory = str(tmp_path_factory.mktemp("one"))
    return replicated_training.run(directory, os.path.join(directory, "checkpoints"))


def replicated(directory, *, tf_configs=({},)):
    """What the processes of a training on two replicas tell about it, and the files of its checkpoints."""
    root = Path(loop.__file__).parents[1]
    processes = []
    for worker, tf_config in enumerate(tf_configs):
        (directory / str(worker)).mkdir()
        command = [sys.executable, replicated_training.__file__, directory / str(worker), directory / "checkpoints"]
        environment = os.environ | {"PYTHONPATH": str(root)} | tf_config
        processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert all(process.returncode == 0 for process in processes), "\n".join(errors)
    results = [json.loads((directory / str(worker) / "result.json").read_text()) for worker in range(len(processes))]
    return results, sorted(path.name for path in (directory / "checkpoints").glob("*.index"))


def assert_equals_one_device(result, one_device):
    np.testing.assert_allclose(result["resumed"]["losses"], one_device["losses"], rtol=1e-12)
    np.testing.assert_allclose(result["resumed"]["weights"], one_device["weights"], rtol=1e-12)


def test_train_two_replicas_stopped_and_resumed_equal_one_device(tmp_path, one_device):
    (result,), saved = replicated(tmp_path)
    assert_equals_one_device(result, one_device)
    assert result["preempted"]["stopped_after"] == 3 and saved == ["ckpt-3.index", "ckpt-6.index"]
    # The rows of all replicas, in their order, are the batch of one device.
    seen = result["preempted"]["seen"] + result["resumed"]["seen"]
    assert [first + second for first, second in seen] == [keys for (keys,) in one_device["seen"]]


def test_train_two_workers_of_which_one_hears_sigterm_stop_together_and_equal_one_device(tmp_path, one_device):
    hosts = {"worker": [f"localhost:{port}" for port in free_ports(2)]}
    tasks = [{"cluster": hosts, "task": {"type": "worker", "index": index}} for index in range(2)]
    results, saved = replicated(tmp_path, tf_configs=[{"TF_CONFIG": json.dumps(task)} for task in tasks])
    # The second worker's signal reaches the first with the sums of the next step.
    assert [result["preempted"]["stopped_after"] for result in results] == [4, 4]
    assert saved == ["ckpt-4.index", "ckpt-6.index"]
    for result in results:
        assert_equals_one_device(result, one_device)
    seen = [result["preempted"]["seen"] + result["resumed"]["seen"] for result in results]
    joined = [first + second for (first,), (second,) in zip(*seen, strict=True)]
    assert joined == [keys for (keys,) in one_device["seen"]]


def free_ports(count):
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


def numbers(total_steps):
    dataset = tf.data.Dataset.range(1, total_steps + 1)
    return lambda first_step, _: ({"number": number} for number in dataset.skip(first_step))


def losses_become_nan(*, at, total_steps, checkpoint_dir=None, every_steps=1):
    variable = tf.Variable(1.0)
    config = OptimizerConfig(name="sgd", learning_rate=0.1)
    optimizer = loop.build_optimizer(config, [variable], batch_size=1, total_steps=total_steps)

    def step(batch):
        optimizer.apply_gradients([(tf.constant(0.0), variable)])
        return {"loss": tf.where(batch["number"] >= at, float("nan"), 1.0)}

    return loop.train(
        step,
        numbers(total_steps),
        trackables={"variable": variable},
        optimizer=optimizer,
        total_steps=total_steps,
        steps_per_epoch=10,
        batch_size=1,
        saving=checkpoint_dir and checkpoints.Saving(checkpoint_dir, every_steps=every_steps),
    )


def test_train_loss_that_is_not_finite_stops_it_with_step_and_remedy():
    with pytest.raises(FloatingPointError, match="nan at step 3: lower the learning rate"):
        losses_become_nan(at=3, total_steps=10)


def test_train_loss_that_is_not_finite_between_logged_steps_is_never_checkpointed(tmp_path):
    # 600 steps are logged at every third; the checkpoint of step 4 comes before the next of those.
    with pytest.raises(FloatingPointError, match="at step 4"):
        losses_become_nan(at=4, total_steps=600, checkpoint_dir=str(tmp_path), every_steps=2)
    assert tf.train.latest_checkpoint(str(tmp_path)).endswith("ckpt-2")


def test_train_long_training_logs_two_hundred_points_and_the_last():
    history = losses_become_nan(at=10**9, total_steps=1001)
    steps = [row["step"] for row in history.rows]
    assert steps == [*range(5, 1001, 5), 1001]


def test_train_writes_tensorboard_events(tmp_path):
    variable = tf.Variable(1.0)
    optimizer = loop.build_optimizer(
        OptimizerConfig(name="sgd", learning_rate=0.1), [variable], batch_size=1, total_steps=2
    )
    loop.train(
        lambda batch: {"loss": tf.cast(batch["number"], tf.float32)},
        numbers(2),
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
    optimizer = loop.build_optimizer(config, [kernel, gamma], batch_size=1, total_steps=10)
    # Without a gradient, decay is all that can move a variable.
    optimizer.apply_gradients([(tf.zeros_like(variable), variable) for variable in (kernel, gamma)])
    np.testing.assert_array_equal(gamma, [3, 3])
    assert (kernel.numpy() < 3).all() == (weight_decay > 0)
    assert (kernel.numpy() == 3).all() == (weight_decay == 0)


@pytest.mark.parametrize(("scaling", "peak"), [("none", 0.5), ("linear", 1.0), ("sqrt", 0.5 * 512**0.5)])
@pytest.mark.parametrize(("decay", "end"), [("cosine", 0.0), ("constant", 1.0)])
def test_build_optimizer_peak_and_decay_are_the_configured_ones(scaling, peak, decay, end):
    config = OptimizerConfig(learning_rate=0.5, scaling=scaling, decay=decay, warmup_share=0.2)
    schedule = loop.build_optimizer(config, [tf.Variable([1.0])], batch_size=512, total_steps=10)._learning_rate
    assert [float(schedule(step)) for step in (0, 2, 10)] == pytest.approx([peak / 2, peak, end * peak], abs=1e-6)


@pytest.mark.parametrize("name", ["lars", "sgd", "adamw"])
def test_build_optimizer_follows_warmup_and_cosine(name):
    variable = tf.Variable([1.0])
    config = OptimizerConfig(name=name, learning_rate=2.0, warmup_share=0.2)
    optimizer = loop.build_optimizer(config, [variable], batch_size=1, total_steps=10)
    rates = []
    for _ in range(10):
        optimizer.apply_gradients([(tf.ones_like(variable), variable)])
        rates.append(float(optimizer.learning_rate))  # that of the step just taken
    assert rates[:3] == pytest.approx([1.0, 2.0, 2.0])
    assert rates[6] == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(1 + np.cos(np.pi * 7 / 8), abs=1e-5)


def test_build_optimizer_sgd_takes_nesterov_steps():
    variable = tf.Variable([0.0])
    config = OptimizerConfig(name="sgd", learning_rate=1.0)
    optimizer = loop.build_optimizer(config, [variable], batch_size=1, total_steps=10**6)
    optimizer.apply_gradients([(tf.constant([1.0]), variable)])
    # v = −1, and the step looks ahead: 0.9·v − 1
    np.testing.assert_allclose(variable, [-1.9], rtol=1e-5)
