"""The options of runs on this machine, and the configuration that they make."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import click

from pipeline.config import PipelineConfig, load_config
from trainer.config import ConfigError

EXIT_CONFIG = 2
SOURCES = ("unlabeled", "labeled", "test")
_Command = Callable[..., None]


def local(command: _Command) -> _Command:
    """Gives a command the options of a run on this machine."""
    return _with(
        command,
        click.option(
            "--unlabeled", metavar="PATH", help="Images to pretrain on: folder, archive, TFRecords or glob."
        ),
        click.option(
            "--labeled", metavar="PATH", help="Images with labels: class folders, .cls members or a manifest."
        ),
        click.option(
            "--test", metavar="PATH", help="Labelled images that only score. Without it a tenth is held out."
        ),
        click.option(
            "--output", metavar="PATH", help="Folder of everything that the run leaves. Default: runs/local."
        ),
        click.option("--config", "config_path", metavar="FILE", help="YAML file with any part of the configuration."),
        click.option(
            "--set",
            "overrides",
            metavar="FIELD=VALUE",
            multiple=True,
            help="One field, such as pretrain.epochs=20. Repeatable.",
        ),
    )


def part(command: _Command) -> _Command:
    """Gives a command the options of a part of a run."""
    return _with(
        command,
        click.option(
            "--from", "from_node", metavar="NODE", help="Start at this node; those before it must have run."
        ),
        click.option("--to", "to_node", metavar="NODE", help="Stop after this node."),
    )


def _with(command: _Command, *options: Callable[[_Command], _Command]) -> _Command:
    for option in reversed(options):
        command = option(command)
    return command


def given(
    config_path: str | None, overrides: Sequence[str], output: str | None, sources: Mapping[str, str | None]
) -> PipelineConfig:
    """The configuration of a command line; ends the program where it is none."""
    fields = [f"data.{name}={quoted(sources[name])}" for name in SOURCES if sources.get(name)]
    fields += [f"output={quoted(output)}"] if output else []
    return load(config_path, [*fields, *overrides])


def load(config_path: str | None, overrides: Sequence[str]) -> PipelineConfig:
    """The configuration of a file and of single fields; ends the program where it is none."""
    try:
        return load_config(config_path, overrides)
    except ConfigError as error:
        refuse(str(error))


def require_store(config: PipelineConfig) -> None:
    """Ends the program where nothing would be kept of what was ingested."""
    if config.retrain.store is None:
        refuse("retrain.store = null: give a folder that keeps what was ingested")


def output_folder(config: PipelineConfig, *below: str) -> Path:
    """Makes the output, or a folder below it; ends the program where that is no place on this machine."""
    if "://" in config.output:
        refuse(
            f"output = {config.output!r}: what runs on this machine leaves its results on it; give a folder. On "
            "Vertex AI they go to vertex.pipeline_root"
        )
    folder = Path(config.output, *below)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        no_folder("output", config.output, error)
    return folder


def no_folder(field: str, path: str, error: OSError) -> NoReturn:
    """Ends the program, since what it writes has no place."""
    refuse(f"{field} = {path!r}: cannot be written: {error.strerror}")


def refuse(words: str) -> NoReturn:
    """Ends the program, since the configuration does not do."""
    click.echo(f"configuration: {words}", err=True)
    sys.exit(EXIT_CONFIG)


def quoted(value: str) -> str:
    """A string as YAML, whatever it looks like."""
    return "'" + value.replace("'", "''") + "'"
