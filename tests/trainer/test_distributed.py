import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import memory_oracle
import nt_xent_oracle
import numpy as np
import pytest
import replicas
import tensorflow as tf

from trainer import distributed
from trainer.config import ComputeConfig

ROOT = Path(distributed.__file__).parents[1]


def start(mode, **environment):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, replicas.__file__, mode]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def results_of(*processes, timeout_s=300):
    outputs = [process.communicate(timeout=timeout_s) for process in processes]
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors
    return [json.loads(output) for output, _ in outputs]


@pytest.fixture(scope="module")
def mirrored():
    (results,) = results_of(start("mirrored"))
    return results


def assert_same(found, expected, **tolerance):
    assert found.keys() == expected.keys()
    for name in found:
        pairs = zip(tf.nest.flatten(found[name]), tf.nest.flatten(expected[name]), strict=True)
        np.testing.assert_allclose(*np.array(list(pairs)).T, err_msg=name, **tolerance)


@pytest.mark.parametrize("n_replicas", ["2", "4", "8"])
def test_step_on_replicas_equals_one_replica_in_loss_gradients_and_weights(mirrored, n_replicas):
    assert_same(mirrored[n_replicas]["step"], mirrored["1"]["step"], rtol=1e-10, atol=1e-12)


# The views are float32, made by XLA on one replica and op by op on several, so they differ by a rounding.
OF_VIEWS = {"rtol": 1e-4, "atol": 1e-6}


@pytest.mark.parametrize("stage", ["pretraining", "distillation", "supervised"])
def test_trainers_own_step_on_replicas_equals_one_replica(mirrored, stage):
    """Where there are labels, the replicas have unequal numbers of them."""
    assert_same(mirrored["2"][stage], mirrored["1"][stage], **OF_VIEWS)


@pytest.mark.slow  # each replica's ResNet is traced for itself, which takes minutes
def test_trainers_own_step_on_four_and_eight_replicas_equals_one_replica():
    (found,) = results_of(start("many"), timeout_s=1200)
    assert found.keys() == {"1", "2", "4", "8"}
    for n_replicas in ("4", "8"):
        assert_same(found[n_replicas], found["1"], **OF_VIEWS)


def test_step_on_replicas_moving_statistics_are_those_of_the_global_batch(mirrored):
    for n_replicas in ("1", "2", "4", "8"):
        step = mirrored[n_replicas]["step"]
        inputs = np.concatenate(replicas.VIEWS) @ step["kernel before"]
        moving_mean, moving_variance = step["variables"][3:5]  # after the first layer's kernel, γ and β
        np.testing.assert_allclose(moving_mean, 0.1 * inputs.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(moving_variance, 0.9 + 0.1 * inputs.var(axis=0), rtol=1e-5)


@pytest.mark.parametrize("n_replicas", ["1", "2"])
@pytest.mark.parametrize("kind", ["loss", "queue", "queue and blocks"])
def test_loss_on_replicas_equals_the_oracle_and_its_finite_differences(mirrored, n_replicas, kind):
    queue = () if kind == "loss" else replicas.QUEUE[np.any(replicas.QUEUE, axis=1)]

    def oracle(z_a, z_b):
        return nt_xent_oracle.nt_xent(z_a, z_b, replicas.TEMPERATURE, queue)

    z_a, z_b = replicas.Z
    found = mirrored[n_replicas][kind]
    assert found["loss"] == pytest.approx(oracle(z_a, z_b), rel=1e-12)
    assert 0 < found["accuracy"] < 1
    assert found["accuracy"] == mirrored["1"][kind]["accuracy"]
    expected_a = nt_xent_oracle.finite_difference_gradient(lambda z: oracle(z, z_b), z_a)
    expected_b = nt_xent_oracle.finite_difference_gradient(lambda z: oracle(z_a, z), z_b)
    np.testing.assert_allclose(found["gradients"], [expected_a, expected_b], atol=1e-8)


@pytest.mark.parametrize("n_replicas", ["1", "2"])
def test_cached_gradients_on_replicas_equal_one_replica_without(mirrored, n_replicas):
    # Keras moves the moving statistics by a float32 0.1, in float64 too.
    assert_same(mirrored[n_replicas]["chunks"], mirrored["1"]["step"], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("n_replicas", ["1", "2"])
def test_memory_on_replicas_is_filled_as_by_one(mirrored, n_replicas):
    found = mirrored[n_replicas]["memory"]
    z_a, z_b = replicas.Z
    expected = memory_oracle.queue_after([(z_a, z_b), (-2 * z_a, -2 * z_b)], 20)
    assert len(found["queues"]) == int(n_replicas)
    for queue in found["queues"]:
        oldest_first = np.roll(queue, -found["pointer"], axis=0)
        np.testing.assert_allclose(oldest_first, expected, rtol=1e-5, atol=1e-7)
    for weight, before in zip(found["weights"], found["weights before"], strict=True):
        expected = memory_oracle.moving_average(before, [np.array(before) + 1], 0.75)
        np.testing.assert_allclose(weight, expected, rtol=1e-6)


def test_two_processes_on_loopback_take_the_step_of_one_replica(mirrored):
    with socket.socket() as first, socket.socket() as second:
        addresses = []
        for free in (first, second):
            free.bind(("localhost", 0))
            addresses.append(f"localhost:{free.getsockname()[1]}")
    workers = [
        start(
            "multi_worker",
            TF_CONFIG=json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}),
        )
        for index in range(2)
    ]
    for found in results_of(*workers):
        assert_same(found, mirrored["1"]["step"], rtol=1e-10, atol=1e-12)


def test_strategy_one_device_is_the_default_strategy():
    strategy = distributed.strategy_of(ComputeConfig())
    assert strategy.num_replicas_in_sync == 1
    assert not tf.distribute.has_strategy()


@pytest.mark.parametrize(
    "tf_config",
    [
        None,
        "not json",
        "[]",
        "{}",
        '{"cluster": {"worker": []}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["localhost:1"]}}',
    ],
)
def test_strategy_multi_worker_without_its_workers_is_refused(monkeypatch, tf_config):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if tf_config is not None:
        monkeypatch.setenv("TF_CONFIG", tf_config)
    with pytest.raises(ValueError, match="TF_CONFIG to name all workers and this one"):
        distributed.strategy_of(ComputeConfig(strategy="multi_worker"))


def test_strategy_tpu_without_a_tpu_is_refused():
    with pytest.raises(ValueError, match=r"no TPU under the name 'local'.*one_device"):
        distributed.strategy_of(ComputeConfig(strategy="tpu"))


@pytest.mark.parametrize(
    ("strategy", "jit_compile", "expected"),
    [
        ("one_device", None, False),
        ("one_device", True, True),
        ("one_device", False, False),
        ("mirrored", None, False),
    ],
)
def test_jit_on_cpus_is_compiled_only_where_demanded(strategy, jit_compile, expected):
    compute = ComputeConfig(strategy=strategy, jit_compile=jit_compile)
    assert distributed.jit_of(compute, tf.distribute.get_strategy()) is expected


def test_jit_of_replicas_on_cpus_is_refused():
    compute = ComputeConfig(strategy="mirrored", jit_compile=True)
    with pytest.raises(ValueError, match="strategy mirrored on CPUs: set it to null or false"):
        distributed.jit_of(compute, tf.distribute.get_strategy())


class FourReplicas:
    num_replicas_in_sync = 4


def test_per_replica_batch_is_an_equal_share():
    assert distributed.per_replica_batch(12, FourReplicas()) == 3


@pytest.mark.parametrize(("batch_size", "remedy"), [(13, "take 12 images"), (3, "take 4 images")])
def test_per_replica_batch_that_does_not_divide_is_refused(batch_size, remedy):
    with pytest.raises(ValueError, match=f"batch of {batch_size} must be a multiple of the 4 replicas: {remedy}"):
        distributed.per_replica_batch(batch_size, FourReplicas())


def test_gather_outside_of_the_replicas_is_refused():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with pytest.MonkeyPatch.context() as patch, strategy.scope():
        patch.setattr(distributed, "replicas", lambda: 2)
        with pytest.raises(ValueError, match=r"only inside of strategy\.run; there are 2"):
            distributed.gather(tf.zeros([1, 2]))


def test_on_one_replica_values_are_what_they_were():
    x = tf.constant([[1.0, 2.0]])
    assert distributed.gather(x) is x
    assert distributed.sum_over_replicas(x) is x
    assert distributed.replica_id() == 0
    assert float(distributed.part_of_mean(tf.constant(3.0))) == 3.0
