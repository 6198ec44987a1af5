"""What the trainer's commands share: their options, their configuration, and how a mistake ends them."""

import functools
import os
import re
import sys
from collections.abc import Callable
from typing import Any

import click

from trainer.config import PRESETS, ConfigError, MethodConfig, load

_EXIT_FAILED, _EXIT_CONFIG, _EXIT_DATA, _EXIT_INTERRUPTED = 1, 2, 3, 130
# TensorFlow's: where in the graph an error arose.
_PLACE_IN_GRAPH = re.compile(r"\{\{.*?\}\} ?| ?\[Op:\w+\].*", re.DOTALL)
_Function = Callable[..., None]


def command(function: _Function) -> click.Command:
    """A command that takes a configuration first; its errors end in one line and an exit code."""

    @functools.wraps(function)
    def run(preset: str | None, path: str | None, overrides: tuple[str, ...], **arguments: Any) -> None:
        try:
            config = load(
                MethodConfig,
                defaults=MethodConfig().model_dump(mode="json"),
                path=path,
                overrides=([f"preset={preset}"] if preset else []) + list(overrides),
            )
            _quiet()
            function(config, **arguments)
        except ConfigError as error:
            _fail(f"configuration: {error}", _EXIT_CONFIG)
        except ValueError as error:
            _fail(str(error), _EXIT_DATA)
        except KeyboardInterrupt:
            _fail("interrupted: the same command goes on from its last checkpoint", _EXIT_INTERRUPTED)
        except Exception as error:
            # What disks, networks and numbers do is told in words; anything else is a fault of ours, and a traceback.
            words = _told(error)
            if words is None:
                raise
            _fail(words, _EXIT_FAILED)

    for option in (
        click.option("--set", "overrides", metavar="FIELD=VALUE", multiple=True, help="One field. Repeatable."),
        click.option("--config", "path", metavar="FILE", help="YAML file with any part of the configuration."),
        click.option("--preset", type=click.Choice(list(PRESETS)), help="The settings of a paper's table."),
    ):
        run = option(run)
    return click.command()(run)


images_option = click.option(
    "--images", required=True, metavar="PATH", help="Images; their labels are not looked at."
)
labeled_option = click.option("--labeled", required=True, metavar="PATH", help="Images with labels to learn from.")
test_option = click.option("--test", required=True, metavar="PATH", help="Images with labels that only score.")
model_option = click.option("--model", required=True, metavar="DIR", help="What `pretrain` wrote.")
output_option = click.option("--output", required=True, metavar="DIR", help="Folder of everything that is written.")


def _quiet() -> None:
    """TensorFlow's start-up noise off, oneDNN on: both are decided when it is imported."""
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def _told(error: Exception) -> str | None:
    """An error of the disk, the network or the arithmetic in words; None: it is another."""
    if isinstance(error, OSError | FloatingPointError):
        return str(error)
    from tensorflow import errors

    if isinstance(error, errors.OpError):
        return _PLACE_IN_GRAPH.sub("", str(error)) or type(error).__name__
    return None


def _fail(message: str, code: int) -> None:
    click.echo(message, err=True)
    sys.exit(code)
