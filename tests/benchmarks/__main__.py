"""`make bench`: the trainer's speed beside lightly's, in one run on one machine. Prints tables; gates nothing.

Each side runs in processes of its own that take turns, lightly's in an environment of its own. Beside each figure
stand the least times for the arithmetic and for the bytes, by what the cores do in a large product and a large copy.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console

from benchmarks import processes, sections, tables
from benchmarks.limits import Machine
from benchmarks.sections import Run, Section

_SECTIONS: dict[str, Callable[..., Section]] = {
    "augmentation": sections.augmentation,
    "step": sections.step,
    "input": sections.files,
    "loss": sections.loss,
    "memory": sections.memory,
}
_LIMITS = {"side": 4096, "mib": 512, "repeats": 5}
_QUICK_LIMITS = {"side": 64, "mib": 1, "repeats": 1}


def print_section(
    name: str,
    console: Console,
    *,
    rounds: int,
    quick: bool = False,
    start: processes.Start = processes.in_new_process,
) -> None:
    """Measures a section and prints its tables.

    Args:
        name: of the section.
        console: to print to.
        rounds: how often each run is made.
        quick: take tiny sizes, whose figures mean nothing.
        start: makes a run.
    """
    with tempfile.TemporaryDirectory() as folder:
        arguments = (Path(folder),) if name == "input" else ()
        section = _SECTIONS[name](*arguments, quick=quick)
        rounds = min(rounds, section.max_rounds or rounds)
        machines = _machines({case.cores for case in section.cases}, quick=quick, start=start)
        results = []
        for case in section.cases:
            console.print(f"{section.title}: {case.name} ...", markup=False)
            results.append((case, processes.take_turns(case, rounds=rounds, start=start)))
        console.print(tables.table(section.title, results, machines))
    for cores, machine in machines.items():
        console.print(
            f"limits of {cores} cores: {machine.flop_per_s / 1e9:.0f} GFLOP/s, {machine.bytes_per_s / 1e9:.1f} GB/s",
            markup=False,
        )


def _machines(cores: set[int], *, quick: bool, start: processes.Start) -> dict[int, Machine]:
    run = Run("limits", "ours", "machine", _QUICK_LIMITS if quick else _LIMITS)
    return {count: Machine(**start(run, count)) for count in sorted(cores)}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--only", type=click.Choice(list(_SECTIONS)), multiple=True, help="One section; repeatable. Default: all."
)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Turns that each side takes.")
@click.option("--quick", is_flag=True, help="Tiny sizes, whose figures mean nothing: does it run?")
def main(only: tuple[str, ...], rounds: int, quick: bool) -> None:
    """Measure the trainer beside lightly."""
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    for name in only or _SECTIONS:
        print_section(name, console, rounds=rounds, quick=quick)


if __name__ == "__main__":
    main(prog_name="make bench")
