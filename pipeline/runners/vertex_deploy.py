"""Leaves the compiled job where the service that starts runs on new data, or by its clock, finds it."""

from dataclasses import dataclass
from pathlib import Path

from google.cloud import storage

from pipeline.config import PipelineConfig
from pipeline.runners import job_template, kubeflow
from pipeline.runners.vertex import as_json, pipeline_job
from pipeline.runners.vertex_calls import explained
from pipeline.runners.vertex_files import write
from trainer.config import ConfigError


@dataclass(frozen=True)
class Deployed:
    """What the service will start from now on.

    Attributes:
        uri: of the template.
        digest: of its job.
    """

    uri: str
    digest: str


def deploy(config: PipelineConfig, directory: str | Path) -> Deployed:
    """Compiles the pipeline and puts its job below the pipeline root; nothing is started.

    Args:
        config: see `vertex.submit`; with `vertex.service_account`, the only account that the service starts runs as.
        directory: of the compiled files.

    Raises:
        ConfigError: the configuration does not compile, or names no account.
        ServiceError: Cloud Storage refuses, or does not answer.
    """
    vertex = config.vertex
    if vertex.service_account is None:
        raise ConfigError(
            "vertex.service_account = null: must be given to deploy; the service starts runs as this account only, "
            "in Terraform's output `platform.vertex`"
        )
    compiled = kubeflow.compile_pipeline(config, directory)
    with explained(vertex, "deploy"):
        template = job_template.make(as_json(pipeline_job(vertex, compiled.job)))
        uri = job_template.uri(vertex.pipeline_root)
        files = storage.Client(project=vertex.project)
        write(files, uri, job_template.dump(template), content_type="application/json")
    return Deployed(uri, template.digest)
