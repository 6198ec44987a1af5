"""Submits the compiled pipeline to Vertex AI, once for each configuration, code and run key."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google.auth
from google.api_core.client_options import ClientOptions
from google.cloud import aiplatform, aiplatform_v1
from google.protobuf import json_format

from pipeline.cloud import VertexConfig
from pipeline.config import PipelineConfig
from pipeline.runners import kubeflow
from pipeline.runners.google_rest import Rest
from pipeline.runners.vertex_calls import CALL, CONSOLE, RETRY, ServiceError, explained
from pipeline.runners.vertex_jobs import Jobs, job_id

_CLOUD = "https://www.googleapis.com/auth/cloud-platform"


@dataclass(frozen=True)
class Submitted:
    """A run on Vertex AI.

    Attributes:
        name: projects/P/locations/L/pipelineJobs/ID.
        link: of its page in the console.
        is_new: whether this submission made it; False: a run of this id was there already.
        state: such as PENDING or FAILED.
    """

    name: str
    link: str
    is_new: bool
    state: str


def submit(
    config: PipelineConfig,
    directory: str | Path,
    *,
    run_key: str = "",
    fingerprints: Mapping[str, str] | None = None,
) -> Submitted:
    """Compiles the pipeline and starts it on Vertex AI; a run that was submitted before is found, not repeated.

    The SDK's own `submit` is not called: it makes a bucket where none is, asks Resource Manager for it, and tries
    nothing again.

    Args:
        config: as `compile_pipeline` takes it; `vertex` has who runs it and where.
        directory: of the compiled files.
        run_key: tells apart runs that are otherwise the same, such as a date.
        fingerprints: see `compile_pipeline`.

    Raises:
        ConfigError: the configuration does not compile.
        ServiceError: Vertex AI refuses, or does not answer.
    """
    compiled = kubeflow.compile_pipeline(config, directory, fingerprints=fingerprints)
    vertex = config.vertex
    run_id = job_id(compiled.job.read_bytes(), run_key)
    with explained(vertex, "submit"):
        job = as_json(pipeline_job(vertex, compiled.job))
        experiment = _experiment(vertex)
        made = _jobs(vertex).start(run_id, job)
        if experiment:
            RETRY(_enter)(experiment, made.name)
    return Submitted(made.name, link(vertex, run_id), made.is_new, made.state)


def pipeline_job(vertex: VertexConfig, compiled: Path) -> aiplatform_v1.PipelineJob:
    """The compiled job as a request: with account, network, key, labels and failure policy.

    Args:
        vertex: who runs it, and where.
        compiled: JSON, see `compile_pipeline`.
    """
    aiplatform.init(project=vertex.project, location=vertex.region, encryption_spec_key_name=vertex.kms_key)
    content = json.loads(compiled.read_text(encoding="utf-8"))
    job = aiplatform.PipelineJob(
        display_name=content["displayName"],
        template_path=str(compiled),
        pipeline_root=vertex.pipeline_root,
        failure_policy=vertex.failure_policy,
    )
    return aiplatform_v1.PipelineJob(
        display_name=content["displayName"],
        pipeline_spec=job.pipeline_spec,
        runtime_config=job.runtime_config,
        labels=content["labels"],
        service_account=vertex.service_account,
        network=vertex.network,
        encryption_spec=aiplatform_v1.EncryptionSpec(kms_key_name=vertex.kms_key) if vertex.kms_key else None,
    )


def as_json(job: aiplatform_v1.PipelineJob) -> dict[str, Any]:
    """A job as Vertex AI's REST interface takes it."""
    return json_format.MessageToDict(aiplatform_v1.PipelineJob.pb(job))


def pipeline_client(vertex: VertexConfig) -> aiplatform_v1.PipelineServiceClient:
    """Of the region; it is when this is made that credentials are looked for."""
    return aiplatform_v1.PipelineServiceClient(client_options=endpoint(vertex))


def endpoint(vertex: VertexConfig) -> ClientOptions:
    """Where the services of the region answer."""
    return ClientOptions(api_endpoint=f"{vertex.region}-aiplatform.googleapis.com")


def link(vertex: VertexConfig, run_id: str) -> str:
    """The page of a run in the console."""
    return f"{CONSOLE}/{vertex.region}/pipelines/runs/{run_id}?project={vertex.project}"


def parent(vertex: VertexConfig) -> str:
    """Where jobs and schedules live."""
    return f"projects/{vertex.project}/locations/{vertex.region}"


def state_name(state: Any) -> str:
    """A state of Vertex AI without the name of its type, such as RUNNING."""
    return state.name.removeprefix("PIPELINE_STATE_")


def _experiment(vertex: VertexConfig) -> aiplatform.Experiment | None:
    if vertex.experiment is None:
        return None
    return RETRY(aiplatform.Experiment.get_or_create)(
        vertex.experiment, project=vertex.project, location=vertex.region
    )


def _enter(experiment: aiplatform.Experiment, name: str) -> None:
    """Makes the run one of the experiment, as soon as Vertex AI has entered it into ML Metadata; twice is once."""
    try:
        # The SDK has this in public only as a part of its `submit`.
        experiment._log_experiment_loggable(aiplatform.PipelineJob.get(name))
    except RuntimeError as error:
        raise ServiceError(f"submitted {name}, but it is in no experiment: {error}") from error


def _jobs(vertex: VertexConfig) -> Jobs:
    credentials, _ = google.auth.default(scopes=[_CLOUD])
    rest = Rest(credentials, retry=CALL["retry"], attempt_timeout_s=CALL["timeout"])
    return Jobs(rest, vertex.project, vertex.region)
