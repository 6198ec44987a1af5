"""Replicas: which there are, how a batch is split among them, and how they see each other's embeddings.

One rule keeps every stage exact on R replicas: a loss is returned as the replica's PART, so that the sum over the
replicas is the mean over the global batch. `apply_gradients` of a tf_keras optimizer sums gradients over the
replicas, and the sum of the parts' gradients is the gradient of the global mean: no scaling by R anywhere else.
"""

import json
import os
from functools import cache
from pathlib import Path

import tensorflow as tf

from trainer.config import ComputeConfig

_CPU_INFO = Path("/proc/cpuinfo")
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # of x86-64 and of ARM


def strategy_of(compute: ComputeConfig) -> tf.distribute.Strategy:
    """The strategy that a configuration names; the variables of a training are made in its scope.

    `one_device` is TensorFlow's default strategy, the first GPU or else the CPU. `mirrored` takes all GPUs of this
    machine, or all logical CPU devices. `multi_worker` and `tpu` must be built before any operation has run, and
    are built once in a process.

    Raises:
        ValueError: `multi_worker` without TF_CONFIG, or `tpu` where none answers.
    """
    if compute.strategy == "mirrored":
        return tf.distribute.MirroredStrategy()
    if compute.strategy == "multi_worker":
        _check_tf_config(os.environ.get("TF_CONFIG", ""))
        return _multi_worker_strategy()
    if compute.strategy == "tpu":
        return _tpu_strategy(compute.tpu)
    return tf.distribute.get_strategy()


def _check_tf_config(text: str) -> None:
    """Without it TensorFlow silently trains one worker, and each machine believes itself alone."""
    try:
        config = json.loads(text)
        complete = bool(config["cluster"]["worker"]) and config["task"]["type"] and config["task"]["index"] >= 0
    except (json.JSONDecodeError, KeyError, TypeError):
        complete = False
    if not complete:
        raise ValueError(
            "strategy multi_worker needs the environment variable TF_CONFIG to name all workers and this one, "
            '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}; '
            f"got {text!r}: set it on every machine, or choose strategy mirrored or one_device"
        )


@cache
def _multi_worker_strategy() -> tf.distribute.Strategy:
    return tf.distribute.MultiWorkerMirroredStrategy()


@cache
def _tpu_strategy(tpu: str) -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=tpu)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"strategy tpu found no TPU under the name {tpu!r}: run on a TPU machine with TensorFlow's TPU build and "
            f"give its name, or choose strategy one_device or mirrored ({error})"
        ) from error
    return tf.distribute.TPUStrategy(resolver)


def jit_of(compute: ComputeConfig, strategy: tf.distribute.Strategy) -> bool:
    """Whether the step that `strategy.run` receives is to be wrapped with `jit_compile`.

    Where the configuration leaves it open: yes on GPUs, no on CPUs. Never on a TPU, whose strategy compiles all it
    runs. On CPUs a step that talks to other replicas cannot be compiled: the exchange happens outside of XLA.

    Raises:
        ValueError: compilation is demanded for replicas on CPUs.
    """
    if isinstance(strategy, tf.distribute.TPUStrategy):
        return False
    has_gpu = bool(tf.config.list_logical_devices("GPU"))
    if compute.jit_compile and compute.strategy != "one_device" and not has_gpu:
        raise ValueError(
            f"jit_compile true does not work with strategy {compute.strategy} on CPUs: set it to null or false, or "
            "choose strategy one_device"
        )
    return has_gpu if compute.jit_compile is None else compute.jit_compile


def emulates_bfloat16() -> bool:
    """Whether the current strategy computes on CPUs without instructions for bfloat16.

    Convolutions of bfloat16 take fifteen times as long there as those of float32.
    """
    flags = set(_CPU_INFO.read_text().split()) if _CPU_INFO.exists() else set()
    return on_cpus() and not _BFLOAT16_FLAGS & flags


def per_replica_batch(batch_size: int, strategy: tf.distribute.Strategy) -> int:
    """Images of a global batch that each replica takes: replica r the r-th run of consecutive rows.

    Raises:
        ValueError: the replicas do not divide the batch.
    """
    n_replicas = strategy.num_replicas_in_sync
    if batch_size % n_replicas:
        raise ValueError(
            f"the batch of {batch_size} must be a multiple of the {n_replicas} replicas: "
            f"take {batch_size // n_replicas * n_replicas or n_replicas} images or another number of devices"
        )
    return batch_size // n_replicas


def replicas() -> int:
    """R, the number of replicas of the current strategy; 1 without one."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def on_cpus() -> bool:
    """Whether the replicas of the current strategy compute on CPUs, and not on GPUs or TPUs."""
    if not tf.distribute.has_strategy():
        return not tf.config.list_logical_devices("GPU")
    return all("CPU" in device.upper() for device in tf.distribute.get_strategy().extended.worker_devices)


def replica_id() -> int | tf.Tensor:
    """Number of the replica that runs the current function, in [0, R)."""
    return 0 if replicas() == 1 else _context().replica_id_in_sync_group


def part_of_mean(mean: tf.Tensor) -> tf.Tensor:
    """A replica's part of a global mean, from the mean over its own equal share of the batch: the mean over R."""
    return mean / tf.cast(replicas(), mean.dtype)


def sum_over_replicas(x: tf.Tensor) -> tf.Tensor:
    """Sum of all replicas' `x`, on each of them, with its gradient; `x` itself on one replica."""
    return x if replicas() == 1 else _context().all_reduce(tf.distribute.ReduceOp.SUM, x)


def gather(x: tf.Tensor) -> tf.Tensor:
    """All replicas' rows, in the order of the replicas.

    Each replica lays its rows into zeros of the size of all and the sum fills the gaps. The gradient is that of a
    sum: all replicas' gradients with respect to the gathered rows are added, and each takes the slice of its own.

    Args:
        x: [B, ...], the same shape on every replica.

    Returns:
        [R·B, ...]; `x` itself on one replica.

    Raises:
        ValueError: called outside of a replica while there are several.
    """
    n_replicas = replicas()
    if n_replicas == 1:
        return x
    slots = tf.scatter_nd([[replica_id()]], x[tf.newaxis], tf.concat([[n_replicas], tf.shape(x)], axis=0))
    gathered = tf.reshape(sum_over_replicas(slots), tf.concat([[-1], tf.shape(x)[1:]], axis=0))
    rows = x.shape[0] and x.shape[0] * n_replicas
    return tf.ensure_shape(gathered, [rows, *x.shape[1:]])


def _context() -> tf.distribute.ReplicaContext:
    context = tf.distribute.get_replica_context()
    if context is None:
        raise ValueError(
            f"replicas exchange values only inside of strategy.run; there are {replicas()}, and this call is outside"
        )
    return context
