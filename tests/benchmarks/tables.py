"""The tables that are printed: a row for each run, beside it the limits of the machine."""

from statistics import median

from rich.table import Table

from benchmarks.limits import Machine
from benchmarks.measure import Figures
from benchmarks.sections import LIGHTLY, Case

Found = dict[str, list[Figures] | str]

_COLUMNS = (
    "",
    "run",
    "ms a batch",
    "images/s",
    "faster than lightly",
    "arithmetic ms",
    "bandwidth ms",
    "waits",
    "peak MiB",
)


def table(title: str, results: list[tuple[Case, Found]], machines: dict[int, Machine]) -> Table:
    """One section.

    Args:
        title: of the table.
        results: cases with the figures of each of their runs, or the reason why there are none.
        machines: the limits by the number of cores.
    """
    drawn = Table(*_COLUMNS, title=title, title_justify="left")
    for case, found in results:
        for name, cells in rows(case, found, machines[case.cores]):
            drawn.add_row(name, *cells)
        drawn.add_section()
    _drop_empty_columns(drawn)
    return drawn


def rows(case: Case, found: Found, machine: Machine) -> list[tuple[str, list[str]]]:
    """The case's name, once, and the cells of each run."""
    limits = [_figure(1000 * seconds) for seconds in machine.seconds(case.needs)]
    shown = []
    for run in case.runs:
        figures, theirs = found[run.name], found.get(LIGHTLY)
        if isinstance(figures, str):
            cells = [run.name, figures]
        else:
            seconds = [figure["seconds"] for figure in figures]
            cells = [
                run.name,
                spread([1000 * value for value in seconds]),
                spread([case.images / value for value in seconds]) if case.images else "",
                _ratio(theirs, figures) if run.name != LIGHTLY else "",
                *limits,
                _spread_of("waits", figures, percent=True),
                _spread_of("mib", figures),
            ]
        shown.append((case.name if not shown else "", cells))
    return shown


def spread(values: list[float], *, unit: str = "") -> str:
    """Median, and in parentheses the least and the largest where there are several."""
    middle = f"{_figure(median(values))}{unit}"
    return middle if len(values) == 1 else f"{middle} ({_figure(min(values))}–{_figure(max(values))})"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _ratio(theirs: list[Figures] | str | None, ours: list[Figures]) -> str:
    """Of the rates within each round, which the machine's load changes less than the rates themselves."""
    if not isinstance(theirs, list):
        return ""
    return spread([their["seconds"] / our["seconds"] for their, our in zip(theirs, ours, strict=True)], unit=" x")


def _spread_of(name: str, figures: list[Figures], *, percent: bool = False) -> str:
    if name not in figures[0]:
        return ""
    values = [figure[name] * (100 if percent else 1) for figure in figures]
    return spread(values, unit=" %" if percent else "")


def _drop_empty_columns(drawn: Table) -> None:
    drawn.columns = [column for column in drawn.columns if any(column.cells)]
