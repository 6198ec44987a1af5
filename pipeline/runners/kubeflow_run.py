"""Starts the compiled pipeline on an open-source Kubeflow Pipelines. Experimental: it has met no real cluster."""

import contextlib
import io
import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import kfp
import kfp_server_api
import urllib3

from pipeline.config import PipelineConfig
from pipeline.runners import kubeflow
from pipeline.runners.vertex_calls import ServiceError
from trainer.config import ConfigError


@dataclass(frozen=True)
class KubeflowRun:
    """A run on Kubeflow Pipelines: its id, and its page."""

    id: str
    link: str


def submit(
    config: PipelineConfig,
    directory: str | Path,
    *,
    host: str,
    run_name: str = "simclr",
    fingerprints: Mapping[str, str] | None = None,
) -> KubeflowRun:
    """Compiles the pipeline and starts a run of it. Every call starts one: Kubeflow has no run ids of one's own.

    Args:
        config: as `compile_pipeline` takes it; `vertex.experiment` names the experiment, null: Kubeflow's default.
        directory: of the compiled files.
        host: URL of the Kubeflow Pipelines API.
        run_name: shown in its pages.
        fingerprints: see `compile_pipeline`.

    Raises:
        ConfigError: the configuration does not compile, or host is no URL.
        ServiceError: no answer, or a refusal.
    """
    if not _is_url(host):
        raise ConfigError(f"host = {host!r}: must be the URL of Kubeflow Pipelines, such as http://localhost:8888")
    compiled = kubeflow.compile_pipeline(config, directory, fingerprints=fingerprints)
    try:
        # The client prints its links itself, for notebooks.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            # Of each attempt it would say so; the last failure is told below.
            logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
            client = kfp.Client(host=host)
            run = client.create_run_from_pipeline_package(
                str(compiled.yaml), run_name=run_name, experiment_name=config.vertex.experiment
            )
    except kfp_server_api.ApiException as error:
        raise ServiceError(f"{host} refused the run: {error.status} {error.reason}: {error.body}") from error
    except (urllib3.exceptions.HTTPError, TimeoutError) as error:
        raise ServiceError(f"{host} does not answer: {error}; is the port forwarded, the URL right?") from error
    return KubeflowRun(run.run_id, f"{host.rstrip('/')}/#/runs/details/{run.run_id}")


def _is_url(host: str) -> bool:
    try:
        parts = urlsplit(host)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, an IPv6 address that is none
        return False
