"""The command that repeats the retraining cycle."""

import datetime
import sys
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import TYPE_CHECKING

import click

from pipeline import cli_options
from pipeline.config import PipelineConfig

if TYPE_CHECKING:
    from pipeline.watch.schedule import Schedule

_EXIT_FAILED = 1


@click.command()
@cli_options.local
@click.option("--cron", metavar="EXPRESSION", help="A cycle by the clock: '0 3 * * 1' is each Monday at three.")
@click.option("--timezone", default="UTC", show_default=True, help="In which the cron is meant: Europe/Berlin.")
@click.option("--files", is_flag=True, help="A cycle when files appear, too. Without --cron that is so anyway.")
def watch(
    config_path: str | None,
    overrides: tuple[str, ...],
    output: str | None,
    cron: str | None,
    timezone: str,
    *,
    files: bool,
    **sources: str | None,
) -> None:
    """Repeat `retrain` when files appear in the source, by the clock, or both, until it is interrupted.

    It begins with a cycle. Each is a process of its own and reads the configuration anew; one that fails is tried
    again later and later. SIGINT and SIGTERM end it, as they end a cycle that runs.
    """
    config = cli_options.given(config_path, overrides, output, sources)
    cli_options.require_store(config)
    from pipeline.watch.schedule import Schedule

    try:
        schedule = Schedule(cron, timezone) if cron else None
    except ValueError as error:
        cli_options.refuse(str(error))
    watched = files or not cron
    if watched and "://" in config.data.unlabeled:
        cli_options.refuse(
            f"data.unlabeled = {config.data.unlabeled!r}: files there cannot be watched; give --cron, without --files"
        )
    arguments = [*_options(sources, output, config_path), *(f"--set={one}" for one in overrides)]
    sys.exit(_watch(config, [sys.executable, "-m", "pipeline", "retrain", *arguments], schedule, watched=watched))


def _watch(config: PipelineConfig, command: Sequence[str], schedule: "Schedule | None", *, watched: bool) -> int:
    from components.span_ingest.patterns import root_of
    from pipeline.watch.child import Cycles, handled, sole_use
    from pipeline.watch.files import Files
    from pipeline.watch.loop import Event, RealClock, Watch

    cli_options.output_folder(config)
    clock = RealClock()
    try:
        with sole_use(config.output) as lock:
            cycles = Cycles(command, lock=lock, say=_say)

            def end(number: int, frame: FrameType | None) -> None:
                clock.events.put(Event.STOP)
                cycles.ask_to_end(number, frame)

            with handled(end):
                files = None
                if watched:
                    root = root_of(config.data.unlabeled)
                    files = Files(
                        root,
                        leave_out=[config.output, config.retrain.store],
                        came=lambda: clock.events.put(Event.FILES),
                        broke=lambda: clock.events.put(Event.BROKEN),
                    )
                    files.start_watching()
                    _say(f"watching {root}")
                loop = Watch(cycles.run, clock=clock, settle_s=config.retrain.settle_s, say=_say, schedule=schedule)
                try:
                    code = loop.run()
                except RuntimeError as error:
                    _say(f"{error}: {files and files.problem}")
                    return _EXIT_FAILED
                finally:
                    if files:
                        files.end()
        _say("the watch has ended")
        return code
    except BlockingIOError:
        cli_options.refuse(f"output = {config.output!r}: another watch, or a cycle of one, is at work there")


def _options(sources: Mapping[str, str | None], output: str | None, config_path: str | None) -> list[str]:
    given = {**sources, "output": output, "config": config_path}
    return [f"--{name}={value}" for name, value in given.items() if value]


def _say(words: str) -> None:
    click.echo(f"{datetime.datetime.now():%Y-%m-%d %H:%M:%S} watch: {words}")
    sys.stdout.flush()
