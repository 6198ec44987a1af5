"""Compiles an HLO module for a TPU that isn't there: `python -m infra.tpu.compile_hlo --target v5e --hlo step.hlo`.

Runs in the environment of `requirements.txt` and prints one JSON object. Every call to a private interface of JAX
and jaxlib is in this module; their versions are pinned for it.
"""

import argparse
import json
import os
import re
import sys
import time
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Any

from infra.tpu.targets import REPLICAS, TARGETS, Target

_COLLECTIVE = re.compile(
    r" (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute|collective-broadcast)(?:-start)?\("
)
_HBM_SHORT = re.compile(r"total memory required.*?\((\S+)\).*?available HBM \((\S+?)\)", re.DOTALL)
_NO_LOWERING = re.compile(r"Custom emitter for \S+ not found")
_TOO_LARGE = 1 << 38  # bytes, more than any TPU's memory


def describe_machine(target: Target) -> None:
    """Tells libtpu by its environment variables which machine to take for granted, before it is loaded."""
    os.environ.update(
        JAX_PLATFORMS="cpu",
        TPU_ACCELERATOR_TYPE=target.accelerator_type,
        TPU_SKIP_MDS_QUERY="1",
        TPU_WORKER_HOSTNAMES="localhost",
        TPU_WORKER_ID="0",
        ALLOW_MULTIPLE_LIBTPU_LOAD="1",
        TPU_LOG_DIR="disabled",
    )


def compile_for(target: Target, hlo: bytes) -> dict[str, Any]:
    """Compiles a module for all devices of a target.

    Args:
        target: the machine.
        hlo: a serialized HloModuleProto of one replica.

    Returns:
        `hbm_available` (bytes of a device); `hbm_needed` (bytes), unless the compiler did not come so far; and either
        `flops` of a device and step and `collectives`, the number of each kind, or `refusal`: what it is `about`
        (`memory`, `op`, or `other`) and the compiler's `reason`.
    """
    devices = _devices(target)
    result: dict[str, Any] = {"hbm_available": _available_hbm(devices)}
    try:
        executable = _compile(_stablehlo(hlo), devices)
    except _compiler_error() as error:
        return result | refusal(str(error))
    (module,) = executable.hlo_modules()
    return result | {
        # The figure that the compiler holds against the memory it has: weights, activations and batch together.
        "hbm_needed": executable.get_compiled_memory_stats().peak_memory_in_bytes,
        "flops": executable.cost_analysis()["flops"],
        "collectives": Counter(_COLLECTIVE.findall(module.to_string())),
    }


def refusal(message: str) -> dict[str, Any]:
    """What a message of the compiler is about, in one line."""
    if short := _HBM_SHORT.search(message):
        needed, available = short.groups()
        reason = f"needs {needed} of memory where {available} are there: take a smaller batch"
        return {"hbm_needed": _bytes(needed), "refusal": {"about": "memory", "reason": reason}}
    if missing := _NO_LOWERING.search(message):
        return {"refusal": {"about": "op", "reason": f"no TPU lowering: {missing[0]}"}}
    return {"refusal": {"about": "other", "reason": message.splitlines()[0]}}


def _devices(target: Target) -> list:
    from jax.experimental import topologies

    devices = topologies.get_topology_desc(
        topology_name=target.topology, platform="tpu", chip_config_name=target.chip_config
    ).devices
    if len(devices) != REPLICAS:
        raise RuntimeError(f"{target.topology} has {len(devices)} devices where {REPLICAS} are compiled for")
    return devices


def _compiler_error() -> type[Exception]:
    from jax.errors import JaxRuntimeError

    return JaxRuntimeError


def _stablehlo(hlo: bytes):
    """An MLIR module of the HLO, without `mhlo.copy`, which only holds back an optimisation."""
    from jax._src.interpreters import mlir
    from jaxlib import _jax
    from jaxlib.mlir import ir

    copies = []

    def find(op):
        if op.name == "mhlo.copy":
            copies.append(op)
        return ir.WalkResult.ADVANCE

    with mlir.make_ir_context():
        module = ir.Module.parse(_jax.mlir.hlo_to_stablehlo(hlo))
        module.operation.walk(find)
        for copy in copies:
            copy.results[0].replace_all_uses_with(copy.operands[0])
            copy.erase()
        return module


def _compile(module, devices: list):
    import numpy as np
    from jaxlib import _jax

    assignment = _jax.DeviceAssignment.create(np.array([[device.id] for device in devices]))
    options = _jax.CompileOptions()
    for holder in (options, options.executable_build_options):
        holder.num_replicas = len(devices)
        holder.num_partitions = 1
        holder.device_assignment = assignment
    with module.context:
        return devices[0].client.compile(
            module, executable_devices=_jax.DeviceList(tuple(devices)), compile_options=options
        )


def _available_hbm(devices: list) -> int:
    """What the compiler has to fill, in its own words: a program that cannot fit names it."""
    from jax._src.interpreters import mlir
    from jaxlib.mlir import ir

    text = f"""
module @probe {{
  func.func public @main(%x: tensor<{_TOO_LARGE}xi8>) -> tensor<{_TOO_LARGE}xi8> {{
    %y = stablehlo.add %x, %x : tensor<{_TOO_LARGE}xi8>
    return %y : tensor<{_TOO_LARGE}xi8>
  }}
}}"""
    with mlir.make_ir_context():
        module = ir.Module.parse(text)
    try:
        _compile(module, devices)
    except _compiler_error() as error:
        if short := _HBM_SHORT.search(str(error)):
            return _bytes(short[2])
        raise
    raise RuntimeError(f"a program of {_TOO_LARGE} bytes was compiled: the compiler no longer checks memory")


def _bytes(text: str) -> int:
    return round(float(text[:-1]) * 2 ** {"K": 10, "M": 20, "G": 30, "T": 40}[text[-1]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", choices=TARGETS, required=True)
    parser.add_argument("--hlo", type=Path, required=True)
    arguments = parser.parse_args()
    target = TARGETS[arguments.target]
    describe_machine(target)
    started = time.monotonic()
    result = compile_for(target, arguments.hlo.read_bytes())
    result |= {"libtpu": metadata.version("libtpu"), "seconds": round(time.monotonic() - started, 1)}
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
