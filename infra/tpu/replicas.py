"""A distribution strategy that traces the program of one TPU replica on a machine without a TPU."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops
from tensorflow.python.distribute import distribute_lib, one_device_strategy, tpu_strategy

_HOST = "/cpu:0"


class TracedReplicas(distribute_lib.Strategy):
    """Stands where TPUStrategy would, which cannot be constructed without hardware.

    What runs in it is traced once, as the program that each of the replicas executes. Reductions become the
    all-reduce of XLA over all replicas, and gathers are TPUStrategy's own, which are made of them.
    """

    def __init__(self, replicas: int) -> None:
        """
        Args:
            replicas: number of TPU cores that run the program.
        """
        super().__init__(_Extended(self, replicas))


class _Extended(one_device_strategy.OneDeviceExtended):
    def __init__(self, strategy: TracedReplicas, replicas: int) -> None:
        super().__init__(strategy, _HOST)
        self._replicas = replicas

    @property
    def _num_replicas_in_sync(self) -> int:
        return self._replicas

    @property
    def worker_devices(self) -> tuple[str, ...]:
        """What the program is traced for, not where."""
        return tuple(f"/device:TPU:{replica}" for replica in range(self._replicas))

    def _call_for_each_replica(self, fn: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
        replica = gen_xla_ops.xla_replica_id()
        with tpu_strategy._TPUReplicaContext(self._container_strategy(), replica):
            return fn(*args, **kwargs)

    def _reduce_to(self, reduce_op: tf.distribute.ReduceOp, value: tf.Tensor, destinations: Any, options: Any):
        total = gen_xla_ops.xla_all_reduce(value, [list(range(self._replicas))], reduce_op="Add", mode="CrossReplica")
        return total / self._replicas if reduce_op == tf.distribute.ReduceOp.MEAN else total
