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
    published = [ablation.published(result.cell.config) for result in results]
    figures = {place: value for each in published for place, value in each.top1.items()}
    rows, columns = (list(dict.fromkeys(place[axis] for place in measured)) for axis in (0, 1))
    table = Table("", *(Column(name, justify="right") for name in columns))
    for row in rows:
        places = [(row, column) for column in columns]
        table.add_row(row, *(_shown(measured.get(place), figures.get(place)) for place in places))
    title = Text(f"{ablation.title}: top-1 %, measured here / published")
    sources = "; ".join(dict.fromkeys(each.source for each in published))
    return Group(title, table, Text(f"published: {sources}"), Text(f"the paper: {ablation.conclusion}"))


def _shown(measured: float | None, published: float | None) -> str:
    if measured is None and published is None:
        return _ABSENT
    return " / ".join(
        _ABSENT if value is None else f"{value:.1f}" for value in (measured and 100 * measured, published)
    )
