"""A table for a person: what was measured here, and beside it what was published."""

from collections.abc import Sequence

from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from trainer.ablations.runner import Result
from trainer.ablations.tables import Ablation

_ABSENT = "–"


def table_of(ablation: Ablation, results: Sequence[Result]) -> Group:
    """Top-1 in percent, measured / published, rows and columns in the order of the results; – where there is none."""
    measured = {(result.cell.row, result.cell.column): result.measured["top1"] for result in results}
    rows, columns = (list(dict.fromkeys(place[axis] for place in measured)) for axis in (0, 1))
    table = Table("", *(Column(name, justify="right") for name in columns))
    for row in rows:
        table.add_row(row, *(_shown(measured.get((row, column)), ablation, (row, column)) for column in columns))
    title = Text(f"{ablation.title}: top-1 %, measured here / published")
    return Group(title, table, Text(f"published: {ablation.source}"), Text(f"the paper: {ablation.conclusion}"))


def _shown(measured: float | None, ablation: Ablation, place: tuple[str, str]) -> str:
    published = ablation.published.get(place)
    if measured is None and published is None:
        return _ABSENT
    return " / ".join(
        _ABSENT if value is None else f"{value:.1f}" for value in (measured and 100 * measured, published)
    )
