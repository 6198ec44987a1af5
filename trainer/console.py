"""The progress of a training for a person: a bar on a terminal, ten plain lines elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from trainer import loop

_PLAIN_LINES = 10


@contextmanager
def progress(stage: str, console: Console) -> Iterator[loop.Report]:
    """What a stage reports to while the context lasts."""
    if not console.is_terminal:
        yield _plain(stage, console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn(
            "{task.completed}/{task.total} steps, loss {task.fields[loss]:.3f}, {task.fields[speed]:.0f} images/s,"
        ),
        TimeRemainingColumn(compact=True),
        TextColumn("left"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(stage, total=None, loss=0.0, speed=0.0)

        def draw(now: loop.Progress) -> None:
            speed, loss = now.images_per_s, now.metrics["loss"]
            bar.update(task, total=now.total_steps, completed=now.step, loss=loss, speed=speed)

        yield draw


def _plain(stage: str, console: Console) -> loop.Report:
    printed = 0

    def line(now: loop.Progress) -> None:
        nonlocal printed
        if now.step * _PLAIN_LINES < (printed + 1) * now.total_steps:
            return
        printed = now.step * _PLAIN_LINES // now.total_steps
        console.print(
            f"{stage}: step {now.step} of {now.total_steps}, loss {now.metrics['loss']:.3f}, "
            f"{now.images_per_s:.0f} images/s",
            markup=False,
        )

    return line
