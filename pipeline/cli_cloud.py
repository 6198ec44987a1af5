"""The commands that start runs in the cloud: compile, preflight, submit, deploy."""

import sys

import click
from rich.console import Console

from pipeline import cli_session
from pipeline.config import PipelineConfig, load_config


@click.command("compile")
@cli_session.configured
@cli_session.compiled_into
def compile_(config_path: str | None, overrides: tuple[str, ...], output: str) -> None:
    """Compile the pipeline for Vertex AI (JSON) and for open-source Kubeflow (YAML).

    Nothing is sent anywhere, and no credentials are read.
    """
    with cli_session.failures_in_words():
        config = load_config(config_path, overrides)
        from pipeline.runners import kubeflow

        compiled = kubeflow.compile_pipeline(config, output)
        click.echo(f"Vertex AI: {compiled.job}\nKubeflow:  {compiled.yaml}")


@click.command()
@cli_session.configured
@click.option("--offline", is_flag=True, help="Look for no credentials, and ask nobody.")
def preflight(config_path: str | None, overrides: tuple[str, ...], *, offline: bool) -> None:
    """Tell what a run on Vertex AI would fail at, what quotas and roles it needs, and roughly what it costs.

    Nothing is started. Without credentials, what only Google Cloud can tell is not checked. Ends with 2 after an
    error of the configuration, with 1 after another.
    """
    with cli_session.failures_in_words():
        config = load_config(config_path, overrides)
        from pipeline.runners import vertex_preflight
        from pipeline.runners.vertex_preflight import findings

        found = vertex_preflight.inspect(config, ask=not offline)
        cli_session.show(findings.table(found), sys.stdout)
        if findings.has_errors(found):
            cli_session.end(found)


@click.command()
@cli_session.configured
@cli_session.compiled_into
@cli_session.checked
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
    with cli_session.failures_in_words():
        config = load_config(config_path, overrides)
        if host:
            from pipeline.runners import kubeflow_run

            run = kubeflow_run.submit(config, output, host=host)
            click.echo(f"submitted {run.id}\n{run.link}")
        else:
            cli_session.stop_at_errors(config, is_checked=is_checked)
            _submit_to_vertex(config, output, run_key, wait=wait)


@click.command()
@cli_session.configured
@cli_session.compiled_into
@cli_session.checked
def deploy(config_path: str | None, overrides: tuple[str, ...], output: str, *, is_checked: bool) -> None:
    """Look at what would fail, compile the pipeline and leave it for the service that starts runs on new data.

    Nothing is started. The pipeline that was deployed before is replaced; runs of it go on.
    """
    with cli_session.failures_in_words():
        config = load_config(config_path, overrides)
        cli_session.stop_at_errors(config, is_checked=is_checked)
        from pipeline.runners import vertex_deploy

        made = vertex_deploy.deploy(config, output)
        click.echo(f"deployed {made.uri}\ndigest {made.digest}")


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


COMMANDS = (compile_, preflight, submit, deploy)
