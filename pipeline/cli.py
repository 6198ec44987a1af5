"""The command line: parse, check, call."""

import datetime
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline import cli_cloud, cli_models, cli_options, cli_schedules, cli_watch, reference
from pipeline.config import PipelineConfig
from trainer.config import ConfigError

if TYPE_CHECKING:
    from pipeline.history.journal import Journal
    from pipeline.history.records import Outcome
    from pipeline.runners.console import Terminal

_EXIT_DONE, _EXIT_FAILED, _EXIT_CONFIG, _EXIT_DATA, _EXIT_REFUSED, _EXIT_INTERRUPTED = 0, 1, 2, 3, 4, 130
_DRIFT_NODE = "Drift"
_LOADING = "loading TensorFlow and TFX ..."
_REHEARSAL_OUTPUT = "runs/rehearsal"


def _interpreters(_context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """Pairs NAME=PYTHON as a dictionary."""
    found = dict(pair.partition("=")[::2] for pair in given)
    for name, python in found.items():
        if not name or not os.access(python, os.X_OK):
            raise click.BadParameter(f"{name}={python}: must be NAME=PYTHON, with an interpreter that can be started")
    return found


@click.group(
    commands=[*cli_cloud.COMMANDS, *cli_schedules.COMMANDS, *cli_models.COMMANDS, cli_watch.watch],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
def main() -> None:
    """SimCLR from unlabeled images to a served model."""


@main.command()
@cli_options.local
@cli_options.part
def run(
    config_path: str | None,
    overrides: tuple[str, ...],
    from_node: str | None,
    to_node: str | None,
    output: str | None,
    **sources: str | None,
) -> None:
    """Run the pipeline on this machine.

    Without images of your own the embedded sample is used. What has not changed since the last run into the
    same OUTPUT is not done again. `python -m pipeline config` lists every field that --config and --set take.
    """
    _run(cli_options.given(config_path, overrides, output, sources), from_node, to_node)


@main.command()
@cli_options.local
@cli_options.part
def retrain(
    config_path: str | None,
    overrides: tuple[str, ...],
    from_node: str | None,
    to_node: str | None,
    output: str | None,
    **sources: str | None,
) -> None:
    """Run one cycle over a source that grows: ingest what is new, and train if that is enough.

    It needs `retrain.store`, the folder of what was ingested. With nothing new it says so and ends well in seconds.
    """
    config = cli_options.given(config_path, overrides, output, sources)
    cli_options.require_store(config)
    _run(config, from_node, to_node)


@main.command()
@click.option("--output", metavar="PATH", help="Folder of everything that it leaves. Default: runs/rehearsal.")
@click.option("--config", "config_path", metavar="FILE", help="YAML file with any part of the configuration.")
@click.option("--set", "overrides", metavar="FIELD=VALUE", multiple=True, help="One field. Repeatable.")
@click.option("--parallel", default=2, show_default=True, type=click.IntRange(min=1), help="Nodes at once.")
@click.option(
    "--image",
    "interpreters",
    metavar="NAME=PYTHON",
    multiple=True,
    callback=_interpreters,
    help="Interpreter whose environment stands for an image; this one stands for all others. Repeatable.",
)
def rehearse(
    config_path: str | None,
    overrides: tuple[str, ...],
    output: str | None,
    parallel: int,
    interpreters: dict[str, str],
) -> None:
    """Compile the pipeline and run what Vertex AI would get, on this machine.

    A process stands for each container, and a folder in OUTPUT for gs://. What could not run is refused before
    anything has started. It ends with the report and the pushed model that `run` ends with.
    """
    config = cli_options.load(config_path, [f"output={cli_options.quoted(output or _REHEARSAL_OUTPUT)}", *overrides])
    _rehearse(config, parallel, interpreters)


@main.command()
@click.option(
    "--output",
    metavar="PATH",
    help="Folder of everything that the runs left, or the pipeline root of runs on Vertex AI. Default: runs/local.",
)
@click.option("--config", "config_path", metavar="FILE", help="YAML file with any part of the configuration.")
@click.option("--set", "overrides", metavar="FIELD=VALUE", multiple=True, help="One field. Repeatable.")
def history(config_path: str | None, overrides: tuple[str, ...], output: str | None) -> None:
    """Write history.html anew, with the records that were lost made from the reports that are still there.

    On gs:// the records are made from what RunSummary has left of each run.
    """
    config = cli_options.given(config_path, overrides, output, {})
    is_remote = config.output.startswith("gs://")
    if not is_remote and not Path(config.output).is_dir():
        cli_options.refuse(f"output = {config.output!r}: there is no such folder; give one that runs have written")
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError

    from pipeline.history import page, records, recovery, summaries

    try:
        found = records.Records(config.output, is_remote=is_remote)
        if is_remote:
            made, damaged = summaries.take_in(found)
        else:
            made, damaged = recovery.recover(found), []
        for record in made:
            click.echo(f"{record.name if is_remote else f'recovered from {record.artifact}'}: {record.outcome}")
        click.echo(f"history: {page.write_page(found, damaged=damaged)}")
    except (OSError, GoogleAPIError, GoogleAuthError) as error:
        click.echo(f"it broke off: {error}", err=True)
        sys.exit(_EXIT_FAILED)


@main.command("config")
@click.option("--markdown", is_flag=True, help="The reference page instead of a list.")
def show_config(*, markdown: bool) -> None:
    """List every configuration field with what it may be, its default and its meaning."""
    if markdown:
        click.echo(reference.markdown(), nl=False)
        return
    for field in reference.fields():
        click.echo(f"{field.path} = {field.default}\n    {field.meaning} ({field.allowed})")


def _run(config: PipelineConfig, from_node: str | None, to_node: str | None) -> None:
    _end_as_interrupted()

    def execute(terminal: "Terminal", started_s: float, journal: "Journal") -> None:
        journal.pushes_into(Path(config.output, "pushed").resolve())
        fingerprints = {}
        if config.retrain.store and from_node is None:
            from pipeline import outlook

            found = outlook.look(config)
            if found.nothing_to_do:
                for line in (*(f"note: {note}" for note in found.notes), found.nothing_to_do):
                    terminal.out.print(line, markup=False, soft_wrap=True)
                journal.looked(found.nothing_to_do, new_images=found.new_images)
                return
            fingerprints["spans"] = found.fingerprint
        terminal.out.print(_LOADING)
        from pipeline import preflight
        from pipeline.runners import local

        fingerprints |= {name: look.fingerprint for name, look in preflight.inspect(config).items()}
        local.run(
            config,
            fingerprints,
            console=terminal.out,
            from_node=from_node,
            to_node=to_node,
            started_s=started_s,
            journal=journal,
        )

    _execute(config, execute)


def _rehearse(config: PipelineConfig, parallel: int, interpreters: dict[str, str]) -> None:
    # Its containers are processes of their own, which it ends when it is interrupted.
    _end_as_interrupted()

    def execute(terminal: "Terminal", started_s: float, journal: "Journal") -> None:
        terminal.out.print(_LOADING)
        from pipeline.runners import compiled

        compiled.run(
            config,
            console=terminal.out,
            parallel=parallel,
            interpreters=interpreters,
            started_s=started_s,
            journal=journal,
        )

    _execute(config, execute)


def _end_as_interrupted() -> None:
    """Who is asked to end does what is done on an interrupt: processes are ended, and the history tells of it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def _execute(config: PipelineConfig, execute: Callable[["Terminal", float, "Journal"], None]) -> None:
    """Calls what loads TensorFlow, with its noise on its way to a log; ends the program where that fails.

    However it ends, the history in the output tells of it.
    """
    started_s = time.monotonic()
    logs = cli_options.output_folder(config, "logs")
    log_path = (logs / f"{datetime.datetime.now():%Y%m%d-%H%M%S}.log").resolve()
    try:
        log_path.touch()
    except OSError as error:
        cli_options.no_folder("output", config.output, error)
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    # TensorFlow turns oneDNN on by itself on some processors only; on the others a step takes twice as long.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    from pipeline.history.journal import Journal
    from pipeline.runners.console import divert_noise

    terminal = divert_noise(str(log_path))
    journal = Journal(config.output, click.get_current_context().info_name or "")
    message, outcome, words, code = None, None, "", _EXIT_DONE
    try:
        execute(terminal, started_s, journal)
    except SystemExit:
        # rich's own way out of a closed pipe.
        outcome, words, code = (
            "failed",
            "nobody reads what it prints: the terminal or pipe was closed",
            _EXIT_FAILED,
        )
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - each is told in words
        message, code = _told(error, log_path)
        outcome, words = _outcome(error), _why(error)
    journal.end(outcome, exit_code=code, words=words)
    for line in (message, journal.problem):
        if line:
            terminal.err.print(f"\n{line}", markup=False, soft_wrap=True)
    if code:
        sys.exit(code)


def _outcome(error: BaseException) -> "Outcome | None":
    """How the history calls a run that did not end well; None: as what it found says."""
    from pipeline.runners.results import NodeFailedError, NotPushedError

    if isinstance(error, NotPushedError):
        return None
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, NodeFailedError) and error.refused_data:
        return "stopped by drift" if error.node == _DRIFT_NODE else "data refused"
    return "failed"


def _why(error: BaseException) -> str:
    """How the history says why a run did not end well."""
    from pipeline.runners.results import NodeFailedError

    if isinstance(error, NodeFailedError):
        return f"{error.node}: {error}"
    if isinstance(error, KeyboardInterrupt) and not str(error):
        return "Interrupted: the next run goes on from there."
    return str(error)


def _told(error: BaseException, log_path: Path) -> tuple[str, int]:
    """How a run that did not end well is told, and the program's exit code."""
    from components.span_ingest.store import DamagedError
    from pipeline.runners.results import NodeFailedError, NotPushedError
    from pipeline.runners.run_folder import RunFolderError

    if isinstance(error, ConfigError):
        return f"configuration: {error}", _EXIT_CONFIG
    if isinstance(error, NodeFailedError):
        words = f"{error.node} failed: {error}\nthe traceback is in {error.log or log_path}"
        return words, _EXIT_DATA if error.refused_data else _EXIT_FAILED
    if isinstance(error, NotPushedError):
        return f"the model was not pushed: {error}", _EXIT_REFUSED
    if isinstance(error, DamagedError):
        # As SpanIngest's own refusal; the look before the run meets the damage first.
        return f"retrain.store: {error}", _EXIT_DATA
    if isinstance(error, RunFolderError):
        return f"nothing was begun: {error}", _EXIT_FAILED
    if isinstance(error, KeyboardInterrupt):
        return "interrupted: the next run goes on from here", _EXIT_INTERRUPTED
    logging.getLogger(__name__).error("the run broke off", exc_info=error)
    return f"the run broke off: {error}\nthe traceback is in {log_path}", _EXIT_FAILED
