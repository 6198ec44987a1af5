"""`make tpu-check`: does the pretraining step compile for a TPU, and does it fit? Needs neither a TPU nor a cloud."""

import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from infra.tpu.targets import REPLICAS, TARGETS
from trainer.config import PRESETS, PretrainConfig

ROOT = Path(__file__).resolve().parents[2]
COMPILER = ROOT / ".venv-tpu" / "bin" / "python"
PRECISIONS = ("mixed_bfloat16", "float32")

_SMALL_IMAGE_PX = 32  # of presets that take the size from the data
_UNFIT_BATCH = 512  # of a core: 41 GB of ResNet-50 in float32
_UNFIT_TARGET = "v5e"
_NO_XLA_LOWERING = "Detected unsupported operations"  # TensorFlow's words while it traces
_GIGA, _GIBI = 1e9, 2**30


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        preset: name of the configuration.
        precision: of the network's layers.
        batch: images of a core.
        target: name of the machine.
        missing_kernel: whether the step holds an op that no TPU has.
        expected: what a refusal has to be about; None: the step has to compile.
    """

    preset: str
    precision: str
    batch: int
    target: str
    missing_kernel: bool = False
    expected: str | None = None

    @property
    def program(self) -> tuple:
        """What the trace depends on: every target has the same number of devices."""
        return self.preset, self.precision, self.batch, self.missing_kernel

    def __str__(self) -> str:
        planted = " with an op that no TPU has" if self.missing_kernel else ""
        return f"{self.preset} {self.precision}, {self.batch} a core{planted}, for {self.target}"


def expected_refusals(case: Case) -> list[Case]:
    """What the check must not let pass: a batch too large for the memory, and an op without a lowering."""
    target = _UNFIT_TARGET
    return [
        replace(case, target=target, precision="float32", batch=_UNFIT_BATCH, expected="memory"),
        replace(case, target=target, missing_kernel=True, expected="op"),
    ]


def configured(case: Case) -> tuple[PretrainConfig, int]:
    """The preset for eight cores in the case's batch and precision, and the side of the stored images."""
    config = PRESETS[case.preset]().pretrain
    compute = config.compute.model_copy(update={"strategy": "one_device", "precision": case.precision})
    config = config.model_copy(update={"batch_size": case.batch * REPLICAS, "compute": compute})
    return config, config.augment.crop.size_px or _SMALL_IMAGE_PX


def trace(case: Case) -> bytes:
    """The step as HLO, in this process.

    Raises:
        ValueError: an op has no XLA lowering at all.
    """
    from infra.tpu.export_step import export_step

    config, image_px = configured(case)
    return export_step(config, image_px=image_px, replicas=REPLICAS, missing_kernel=case.missing_kernel)


def compile_for(target: str, hlo: bytes) -> dict[str, Any]:
    """Compiles in the TPU compiler's own environment; see `compile_hlo.compile_for` for what comes back.

    Raises:
        RuntimeError: the compiler did not come to an answer.
    """
    with tempfile.NamedTemporaryFile(suffix=".hlo") as file:
        file.write(hlo)
        file.flush()
        command = [str(COMPILER), "-m", "infra.tpu.compile_hlo", "--target", target, "--hlo", file.name]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the compiler for {target} ended with code {done.returncode}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def run(cases: list[Case], console: Console) -> Iterator[tuple[Case, dict[str, Any]]]:
    """Traces each program once and compiles it for its targets, one after the other."""
    program, hlo = None, b""
    for number, case in enumerate(cases, start=1):
        started = time.monotonic()
        console.print(f"[{number}/{len(cases)}] {case} ... ", end="", markup=False)
        try:
            if case.program != program:
                program, hlo = case.program, trace(case)
            result = compile_for(case.target, hlo)
        except ValueError as error:
            if _NO_XLA_LOWERING not in str(error):
                raise
            result = {"refusal": {"about": "op", "reason": str(error).splitlines()[0]}}
        console.print(f"{verdict(case, result)} ({time.monotonic() - started:.0f} s)", markup=False)
        yield case, result


def passes(case: Case, result: dict[str, Any]) -> bool:
    """Whether the outcome is the expected one; a refusal for another reason is not."""
    return result.get("refusal", {}).get("about") == case.expected


def verdict(case: Case, result: dict[str, Any]) -> str:
    """The outcome in words."""
    if "refusal" not in result:
        return "compiles" if passes(case, result) else "compiles, WHERE IT HAS TO BE REFUSED"
    expected = ", as it has to be" if passes(case, result) else ""
    return f"refused{expected}: {result['refusal']['reason']}"


def table(results: list[tuple[Case, dict[str, Any]]]) -> Table:
    """Target, replicas, batch, memory, arithmetic and collectives of each case."""
    rows = Table("step", "target", "replicas", "batch a core", "HBM needed", "of", "GFLOP", "collectives", "outcome")
    for case, result in results:
        gib = {name: f"{result[name] / _GIBI:.2f} GiB" for name in ("hbm_needed", "hbm_available") if name in result}
        collectives = ", ".join(f"{count} {kind}" for kind, count in sorted(result.get("collectives", {}).items()))
        outcome = "compiles" if "refusal" not in result else f"refused ({result['refusal']['about']})"
        rows.add_row(
            f"{case.preset} {case.precision}{' + missing op' if case.missing_kernel else ''}",
            TARGETS[case.target].topology,
            str(REPLICAS),
            str(case.batch),
            gib.get("hbm_needed", ""),
            gib.get("hbm_available", ""),
            f"{result['flops'] / _GIGA:.0f}" if "flops" in result else "",
            collectives,
            outcome if passes(case, result) else f"{outcome}: NOT EXPECTED",
        )
    return rows


@click.command()
@click.option("--target", "targets", type=click.Choice(list(TARGETS)), multiple=True, help="Default: all.")
@click.option("--preset", type=click.Choice(list(PRESETS)), default="imagenet_r50_v1", show_default=True)
@click.option("--precision", "precisions", type=click.Choice(PRECISIONS), multiple=True, help="Default: both.")
@click.option("--batch", type=click.IntRange(1), default=64, show_default=True, help="Images of a core.")
@click.option("--missing-kernel", is_flag=True, help="Put an op into the step that no TPU has, to see it refused.")
@click.option("--refusals/--no-refusals", default=True, help="Whether to check what has to be refused as well.")
def main(
    targets: tuple[str, ...],
    preset: str,
    precisions: tuple[str, ...],
    batch: int,
    missing_kernel: bool,
    refusals: bool,
) -> None:
    """Compile the pretraining step for TPUs, ahead of time and without one."""
    os.environ.update(TF_USE_LEGACY_KERAS="1", TF_CPP_MIN_LOG_LEVEL="3")
    warnings.filterwarnings("ignore", "You are using a .*Python version", FutureWarning)  # of Google's clients
    console = Console(width=None if sys.stdout.isatty() else 160)
    cases = [
        Case(preset, precision, batch, target, missing_kernel)
        for precision in precisions or PRECISIONS
        for target in targets or TARGETS
    ]
    if refusals:
        cases += expected_refusals(cases[0])
    results = list(run(cases, console))
    console.print(table(results))
    versions = {result["libtpu"] for _, result in results if "libtpu" in result}
    console.print(f"libtpu {', '.join(versions) or 'was not asked'}; nothing of this has run on a TPU", markup=False)
    sys.exit(0 if all(passes(case, result) for case, result in results) else 1)


if __name__ == "__main__":
    main()
