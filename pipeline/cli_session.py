"""What the commands of the cloud share: options, a look at the configuration first, failures in words."""

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NoReturn, TextIO

import click
from rich.console import Console
from rich.table import Table

from pipeline.config import PipelineConfig
from trainer.config import ConfigError

if TYPE_CHECKING:
    from pipeline.runners.vertex_preflight.findings import Finding

_EXIT_FAILED, _EXIT_CONFIG, _EXIT_INTERRUPTED = 1, 2, 130
_WIDTH_WITHOUT_TERMINAL = 120

_Command = Callable[..., None]


def configured(command: _Command) -> _Command:
    """Gives a command the options of a configuration for the cloud."""
    path = click.option("--config", "config_path", metavar="FILE", help="YAML, such as infra/vertex.example.yaml.")
    fields = click.option("--set", "overrides", metavar="FIELD=VALUE", multiple=True, help="One field. Repeatable.")
    return path(fields(command))


compiled_into = click.option(
    "--output", metavar="DIR", default="build", show_default=True, help="Folder of the compiled files."
)
checked = click.option("--no-preflight", "is_checked", flag_value=False, default=True, help="Send it unchecked.")


def stop_at_errors(config: PipelineConfig, *, is_checked: bool) -> None:
    """Prints what preflight has against a run, and its rough cost; ends the process at an error."""
    if not is_checked:
        return
    from pipeline.runners import vertex_preflight
    from pipeline.runners.vertex_preflight import findings

    found = vertex_preflight.inspect(config)
    show(findings.table(findings.remarkable(found)), sys.stderr)
    if findings.has_errors(found):
        click.echo("nothing was sent: mend the errors, or give --no-preflight (NO_PREFLIGHT=1)", err=True)
        end(found)


def end(found: "list[Finding]") -> NoReturn:
    """Ends the process after errors: with 2 where one is the configuration's, else with 1."""
    from pipeline.runners.vertex_preflight import findings

    sys.exit(_EXIT_CONFIG if findings.has_mistakes(found) else _EXIT_FAILED)


def show(table: Table, file: TextIO) -> None:
    """Prints a table as wide as the terminal, or as a page where there is none."""
    width = None if file.isatty() else _WIDTH_WITHOUT_TERMINAL
    Console(file=file, width=width, highlight=False).print(table)


@contextlib.contextmanager
def failures_in_words() -> Iterator[None]:
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
