"""The commands of the cloud: compile, preflight, submit, deploy, schedules, embeddings; promotion, there and here."""

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TextIO

import click
from rich.console import Console
from rich.table import Table

from pipeline.config import PipelineConfig, load_config
from trainer.config import ConfigError

if TYPE_CHECKING:
    from components.push import restoring
    from components.vertex_push import registry
    from pipeline.runners import vertex_schedules

_EXIT_FAILED, _EXIT_CONFIG, _EXIT_INTERRUPTED = 1, 2, 130
_WIDTH_WITHOUT_TERMINAL = 120


_Command = Callable[..., None]


def _configured(command: _Command) -> _Command:
    """Gives a command the options of a configuration for the cloud."""
    path = click.option("--config", "config_path", metavar="FILE", help="YAML, such as infra/vertex.example.yaml.")
    fields = click.option("--set", "overrides", metavar="FIELD=VALUE", multiple=True, help="One field. Repeatable.")
    return path(fields(command))


_compiled_into = click.option(
    "--output", metavar="DIR", default="build", show_default=True, help="Folder of the compiled files."
)
_checked = click.option("--no-preflight", "is_checked", flag_value=False, default=True, help="Send it unchecked.")
_pushed = click.option(
    "--pushed",
    metavar="FOLDER",
    help="Folder of pushed versions, local or gs://, such as runs/local/pushed. Without it: Vertex AI's registry if "
    "the configuration names it, else the folder of the configured output.",
)
_called = click.option("--name", default="simclr", show_default=True, help="What the schedule is called.")


@click.command("compile")
@_configured
@_compiled_into
def compile_(config_path: str | None, overrides: tuple[str, ...], output: str) -> None:
    """Compile the pipeline for Vertex AI (JSON) and for open-source Kubeflow (YAML).

    Nothing is sent anywhere, and no credentials are read.
    """
    with _failures_in_words():
        config = load_config(config_path, overrides)
        from pipeline.runners import kubeflow

        compiled = kubeflow.compile_pipeline(config, output)
        click.echo(f"Vertex AI: {compiled.job}\nKubeflow:  {compiled.yaml}")


@click.command()
@_configured
@click.option("--offline", is_flag=True, help="Look for no credentials, and ask nobody.")
def preflight(config_path: str | None, overrides: tuple[str, ...], *, offline: bool) -> None:
    """Tell what a run on Vertex AI would fail at, what quotas and roles it needs, and roughly what it costs.

    Nothing is started. Without credentials, what only Google Cloud can tell is not checked. Ends with 2 after an
    error of the configuration, with 1 after another.
    """
    with _failures_in_words():
        config = load_config(config_path, overrides)
        from pipeline.runners import vertex_preflight
        from pipeline.runners.vertex_preflight import findings

        found = vertex_preflight.inspect(config, ask=not offline)
        _show(findings.table(found), sys.stdout)
        if findings.has_errors(found):
            sys.exit(_EXIT_CONFIG if findings.has_mistakes(found) else _EXIT_FAILED)


@click.command()
@_configured
@_compiled_into
@_checked
@click.option("--run-key", metavar="TEXT", default="", help="Tells apart runs that are otherwise the same: a date.")
@click.option("--wait", is_flag=True, help="Follow the run to its end. Vertex AI only.")
@click.option("--runner", type=click.Choice(["vertex", "kubeflow"]), default="vertex", show_default=True)
@click.option("--host", metavar="URL", help="Of Kubeflow Pipelines, for --runner kubeflow, which is experimental.")
def submit(
    config_path: str | None,
    overrides: tuple[str, ...],
    output: str,
    run_key: str,
    runner: str,
    host: str | None,
    *,
    wait: bool,
    is_checked: bool,
) -> None:
    """Look at what would fail, compile the pipeline and start it on Vertex AI.

    The same configuration, code and run key start one run, however often they are submitted.
    """
    if (runner == "kubeflow") != bool(host) or (runner == "kubeflow" and (wait or run_key)):
        raise click.UsageError(
            "--runner kubeflow takes --host, and neither --wait nor --run-key; vertex takes no --host"
        )
    with _failures_in_words():
        config = load_config(config_path, overrides)
        if host:
            from pipeline.runners import kubeflow_run

            run = kubeflow_run.submit(config, output, host=host)
            click.echo(f"submitted {run.id}\n{run.link}")
        else:
            _stop_at_errors(config, is_checked=is_checked)
            _submit_to_vertex(config, output, run_key, wait=wait)


@click.command()
@_configured
@_compiled_into
@_checked
def deploy(config_path: str | None, overrides: tuple[str, ...], output: str, *, is_checked: bool) -> None:
    """Look at what would fail, compile the pipeline and leave it for the service that starts runs on new data.

    Nothing is started. The pipeline that was deployed before is replaced; runs of it go on.
    """
    with _failures_in_words():
        config = load_config(config_path, overrides)
        _stop_at_errors(config, is_checked=is_checked)
        from pipeline.runners import vertex_deploy

        made = vertex_deploy.deploy(config, output)
        click.echo(f"deployed {made.uri}\ndigest {made.digest}")


@click.command()
@_configured
@_compiled_into
@_checked
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
    with _failures_in_words():
        config = load_config(config_path, overrides)
        _stop_at_errors(config, is_checked=is_checked)
        from pipeline.runners import vertex_schedules

        made = vertex_schedules.schedule(config, cron, output, name=name, timezone=timezone)
        click.echo(f"{'made' if made.is_new else 'changed'} {_line(made)}")


@click.command()
@_configured
@_called
def unschedule(config_path: str | None, overrides: tuple[str, ...], name: str) -> None:
    """Delete a schedule; runs that it began go on."""
    with _failures_in_words():
        config = load_config(config_path, overrides)
        from pipeline.runners import vertex_schedules

        for removed in vertex_schedules.unschedule(config, name=name):
            click.echo(f"deleted {_line(removed)}")


@click.command()
@_configured
def schedules(config_path: str | None, overrides: tuple[str, ...]) -> None:
    """List the schedules on Vertex AI."""
    with _failures_in_words():
        config = load_config(config_path, overrides)
        from pipeline.runners import vertex_schedules

        found = vertex_schedules.schedules(config)
        click.echo("\n".join(_line(item) for item in found) or "no schedules")


@click.command()
@_configured
@_pushed
@click.option("--version", help="Number or alias of the version; in a folder its number. Default: candidate.")
def promote(config_path: str | None, overrides: tuple[str, ...], pushed: str | None, version: str | None) -> None:
    """Make a version the champion; the one so far can be had back by rollback."""
    with _failures_in_words():
        config = load_config(config_path, overrides)
        if folder := _pushed_folder(config, pushed):
            if version is None or not version.isdecimal():
                given = "--version is missing" if version is None else f"--version {version}"
                raise click.UsageError(f"{given}: versions in a folder are numbered; give a number")
            from components.push import restoring

            _tell_of_folder(folder, lambda: restoring.promote(folder, int(version)))
            return
        from pipeline.runners import vertex_registry

        _tell(vertex_registry.promote(config.vertex, version or "candidate"))


@click.command()
@_configured
@_pushed
def rollback(config_path: str | None, overrides: tuple[str, ...], pushed: str | None) -> None:
    """Make the champion before this one the champion again."""
    with _failures_in_words():
        config = load_config(config_path, overrides)
        if folder := _pushed_folder(config, pushed):
            from components.push import restoring

            _tell_of_folder(folder, lambda: restoring.roll_back(folder))
            return
        from pipeline.runners import vertex_registry

        _tell(vertex_registry.roll_back(config.vertex))


@click.command()
@_configured
@click.option("--images", metavar="GS", required=True, help="Folder of images on gs://.")
@click.option("--output", metavar="GS", required=True, help="Folder on gs:// in which the embeddings get their own.")
@click.option("--version", default="champion", show_default=True, help="Number or alias of the version.")
@click.option("--wait", is_flag=True, help="Follow the job to its end.")
def embeddings(
    config_path: str | None, overrides: tuple[str, ...], images: str, output: str, version: str, *, wait: bool
) -> None:
    """Embed a folder of images with a version of the registered model, on Vertex AI.

    The same version, images and output begin one job, however often they are given, unless it has failed.
    """
    with _failures_in_words():
        config = load_config(config_path, overrides)
        from pipeline.runners import vertex_batch

        job = vertex_batch.embed(config.vertex, images, output, version=version)
        job_id = job.name.rpartition("/")[2]
        begun = "begun" if job.is_new else f"begun before, {job.state}; nothing was sent"
        click.echo(f"version {job.version} embeds {job.n_images} images: job {job_id}, {begun}\n{job.link}")
        if wait:
            click.echo(f"embeddings: {vertex_batch.follow(config.vertex, job.name, say=click.echo)}")


def _stop_at_errors(config: PipelineConfig, *, is_checked: bool) -> None:
    """Prints what preflight has against a run, and its rough cost; ends the process at an error."""
    if not is_checked:
        return
    from pipeline.runners import vertex_preflight
    from pipeline.runners.vertex_preflight import findings

    found = vertex_preflight.inspect(config)
    _show(findings.table(findings.remarkable(found)), sys.stderr)
    if findings.has_errors(found):
        click.echo("nothing was sent: mend the errors, or give --no-preflight (NO_PREFLIGHT=1)", err=True)
        sys.exit(_EXIT_CONFIG if findings.has_mistakes(found) else _EXIT_FAILED)


def _show(table: Table, file: TextIO) -> None:
    width = None if file.isatty() else _WIDTH_WITHOUT_TERMINAL
    Console(file=file, width=width, highlight=False).print(table)


def _pushed_folder(config: PipelineConfig, given: str | None) -> str | None:
    """The folder whose champion is meant; None where Vertex AI's registry is."""
    if given is not None:
        return given
    names_registry = config.vertex.project is not None or config.vertex.registry.model is not None
    return None if names_registry else os.path.join(config.output, "pushed")


def _tell_of_folder(folder: str, move: "Callable[[], restoring.Change]") -> None:
    try:
        change = move()
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    before = f"version {change.former}" if change.former else "none"
    click.echo(f"version {change.champion} is the champion of {folder}; the one before: {before}")


def _tell(change: "registry.Change") -> None:
    before = f"version {change.previous}" if change.previous else "none"
    done = "is the champion" if change.is_new else "was the champion already"
    click.echo(f"version {change.champion} {done}; the one before: {before}")


def _submit_to_vertex(config: PipelineConfig, output: str, run_key: str, *, wait: bool) -> None:
    from pipeline.runners import vertex, vertex_follow

    run = vertex.submit(config, output, run_key=run_key)
    run_id = run.name.rpartition("/")[2]
    if run.is_new:
        click.echo(f"submitted {run_id}\n{run.link}")
    else:
        click.echo(
            f"{run_id} was submitted before and is {run.state}; nothing was sent. To run the same once more, give "
            f"another run key (RUN_KEY=)\n{run.link}"
        )
    if wait:
        client = vertex.pipeline_client(config.vertex)
        vertex_follow.follow(client, run.name, config.vertex, console=Console())


def _line(item: "vertex_schedules.Schedule") -> str:
    next_run = f"next run {item.next_run:%Y-%m-%d %H:%M %Z}" if item.next_run else "no next run"
    return f"{item.name}: {item.cron}, {item.state}, {next_run} ({item.resource})"


@contextlib.contextmanager
def _failures_in_words() -> Iterator[None]:
    """Ends the process with a line and a code where the cloud or the configuration is the reason."""
    _quieten()
    from pipeline.runners.vertex_calls import ServiceError

    try:
        yield
    except ConfigError as error:
        message, code = f"configuration: {error}", _EXIT_CONFIG
    except ServiceError as error:
        message, code = str(error), _EXIT_FAILED
    except OSError as error:
        message, code = f"it broke off: {error}", _EXIT_FAILED
    except KeyboardInterrupt:
        message, code = "interrupted: what was started in the cloud goes on there", _EXIT_INTERRUPTED
    else:
        return
    click.echo(message, err=True)
    sys.exit(code)


def _quieten() -> None:
    """Keeps start-up noise away that no user of a compiler can do anything about."""
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Google's clients print one for each of their packages on Python 3.10, which TFX 1.16 cannot do without.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\.")
    logging.getLogger("absl").setLevel(logging.ERROR)


COMMANDS = (compile_, preflight, submit, deploy, schedule, unschedule, schedules, promote, rollback, embeddings)
