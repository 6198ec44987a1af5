"""The commands of models: promotion, on Vertex AI and in a folder, and embeddings."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from pipeline import cli_session
from pipeline.config import PipelineConfig, load_config

if TYPE_CHECKING:
    from components.push import restoring
    from components.vertex_push import registry

_pushed = click.option(
    "--pushed",
    metavar="FOLDER",
    help="Folder of pushed versions, local or gs://, such as runs/local/pushed. Without it: Vertex AI's registry if "
    "the configuration names it, else the folder of the configured output.",
)


@click.command()
@cli_session.configured
@_pushed
@click.option("--version", help="Number or alias of the version; in a folder its number. Default: candidate.")
def promote(config_path: str | None, overrides: tuple[str, ...], pushed: str | None, version: str | None) -> None:
    """Make a version the champion; the one so far can be had back by rollback."""
    with cli_session.failures_in_words():
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
@cli_session.configured
@_pushed
def rollback(config_path: str | None, overrides: tuple[str, ...], pushed: str | None) -> None:
    """Make the champion before this one the champion again."""
    with cli_session.failures_in_words():
        config = load_config(config_path, overrides)
        if folder := _pushed_folder(config, pushed):
            from components.push import restoring

            _tell_of_folder(folder, lambda: restoring.roll_back(folder))
            return
        from pipeline.runners import vertex_registry

        _tell(vertex_registry.roll_back(config.vertex))


@click.command()
@cli_session.configured
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
    with cli_session.failures_in_words():
        config = load_config(config_path, overrides)
        from pipeline.runners import vertex_batch

        job = vertex_batch.embed(config.vertex, images, output, version=version)
        job_id = job.name.rpartition("/")[2]
        begun = "begun" if job.is_new else f"begun before, {job.state}; nothing was sent"
        click.echo(f"version {job.version} embeds {job.n_images} images: job {job_id}, {begun}\n{job.link}")
        if wait:
            click.echo(f"embeddings: {vertex_batch.follow(config.vertex, job.name, say=click.echo)}")


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
    if change.champion == change.former:
        click.echo(f"version {change.champion} was the champion of {folder} already")
        return
    before = f"version {change.former}" if change.former else "none"
    click.echo(f"version {change.champion} is the champion of {folder}; the one before: {before}")


def _tell(change: "registry.Change") -> None:
    before = f"version {change.previous}" if change.previous else "none"
    done = "is the champion" if change.is_new else "was the champion already"
    click.echo(f"version {change.champion} {done}; the one before: {before}")


COMMANDS = (promote, rollback, embeddings)
