"""The commands of schedules on Vertex AI."""

from typing import TYPE_CHECKING

import click

from pipeline import cli_session
from pipeline.config import load_config

if TYPE_CHECKING:
    from pipeline.runners import vertex_schedules

_called = click.option("--name", default="simclr", show_default=True, help="What the schedule is called.")


@click.command()
@cli_session.configured
@cli_session.compiled_into
@cli_session.checked
@_called
@click.option("--cron", required=True, help="Minute, hour, day, month, weekday: '0 3 * * 1' is Mondays at 3.")
@click.option("--timezone", default="UTC", show_default=True, help="In which the cron is meant: Europe/Berlin.")
def schedule(
    config_path: str | None,
    overrides: tuple[str, ...],
    output: str,
    name: str,
    cron: str,
    timezone: str,
    *,
    is_checked: bool,
) -> None:
    """Run the pipeline on Vertex AI by the clock, one run at a time.

    A run that comes due while the one before still runs, or while the schedule is paused, is skipped.
    """
    with cli_session.failures_in_words():
        config = load_config(config_path, overrides)
        from pipeline.runners import vertex_cron

        vertex_cron.timed(cron, timezone)  # before anybody is asked anything
        cli_session.stop_at_errors(config, is_checked=is_checked)
        from pipeline.runners import vertex_schedules

        made = vertex_schedules.schedule(config, cron, output, name=name, timezone=timezone)
        click.echo(f"{'made' if made.is_new else 'changed'} {_line(made)}")


@click.command()
@cli_session.configured
@_called
def unschedule(config_path: str | None, overrides: tuple[str, ...], name: str) -> None:
    """Delete a schedule; runs that it began go on."""
    with cli_session.failures_in_words():
        config = load_config(config_path, overrides)
        from pipeline.runners import vertex_schedules

        for removed in vertex_schedules.unschedule(config, name=name):
            click.echo(f"deleted {_line(removed)}")


@click.command()
@cli_session.configured
def schedules(config_path: str | None, overrides: tuple[str, ...]) -> None:
    """List the schedules on Vertex AI."""
    with cli_session.failures_in_words():
        config = load_config(config_path, overrides)
        from pipeline.runners import vertex_schedules

        found = vertex_schedules.schedules(config)
        click.echo("\n".join(_line(item) for item in found) or "no schedules")


def _line(item: "vertex_schedules.Schedule") -> str:
    next_run = f"next run {item.next_run:%Y-%m-%d %H:%M %Z}" if item.next_run else "no next run"
    return f"{item.name}: {item.cron}, {item.state}, {next_run} ({item.resource})"


COMMANDS = (schedule, unschedule, schedules)
