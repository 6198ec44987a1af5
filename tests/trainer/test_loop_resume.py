"""Trainings that are killed or stopped and go on, alone and on replicas, as if nothing had been."""

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


@pytest.fixture
def sigterm_at(send_sigterm):
    return lambda step: lambda number: send_sigterm() if number == step else None


@pytest.mark.parametrize("step", DRAWS.sample(range(killed_training.TOTAL_STEPS - 1), 2))
def test_train_sigterm_finishes_the_step_saves_and_is_resumed_bit_for_bit(tmp_path, uninterrupted, sigterm_at, step):
    with pytest.raises(loop.PreemptedError, match=f"after step {step + 1} of 12, which is saved in {tmp_path}"):
        killed_training.run(str(tmp_path), batch_hook=sigterm_at(step))
    first_batches = []
    resumed = killed_training.run(str(tmp_path), batch_hook=first_batches.append)
    assert first_batches[0] == step + 1
    assert_same_training(resumed, uninterrupted)


def test_train_sigterm_at_the_last_step_is_the_end_of_the_training(tmp_path, uninterrupted, sigterm_at):
    assert_same_training(killed_training.run(str(tmp_path), batch_hook=sigterm_at(11)), uninterrupted)


def test_train_gives_the_signal_back_as_it_found_it(tmp_path, send_sigterm, sigterm_at):
    heard = []
    signal.signal(signal.SIGTERM, lambda *_: heard.append("outer"))  # `send_sigterm` restores what was before
    killed_training.run(str(tmp_path / "whole"))
    with pytest.raises(KilledError):
        killed_training.run(str(tmp_path / "killed"), batch_hook=kill_at(3))
    killed_training.run(batch_hook=sigterm_at(3))  # without checkpoints there is nothing to save
    assert heard == ["outer"]
    send_sigterm()
    assert heard == ["outer", "outer"]


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
