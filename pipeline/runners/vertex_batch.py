"""Embeddings of a folder of images by batch prediction: one job for a version, its images and the output folder."""

import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from google.api_core.client_options import ClientOptions
from google.cloud import aiplatform_v1, storage
from google.cloud.aiplatform_v1 import BatchPredictionJob, JobServiceClient, JobState

from components.image_example_gen.names import is_hidden
from components.vertex_push.registry import CHAMPION, Registry
from components.vertex_push.settings import Target
from pipeline.cloud import VertexConfig
from pipeline.runners.vertex_calls import BEGIN, CALL, CONSOLE, RETRY, ServiceError, explained
from pipeline.runners.vertex_files import STORAGE_RETRY, write
from pipeline.runners.vertex_registry import target_of
from trainer.config import ConfigError

_POLL_S = 30
_DIGEST_LENGTH = 16
_FOLDER = re.compile("gs://[^/]")
# What the served model decodes: one file that it does not, and all of the same request have no embedding.
_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp")
# Of a request. Vertex AI's own, 64 photos of 5 MB, would be 430 MB of JSON and as many images lost with a broken one.
_BATCH_SIZE = 16
_FAILED = (JobState.JOB_STATE_FAILED, JobState.JOB_STATE_CANCELLED, JobState.JOB_STATE_EXPIRED)
_DONE = (JobState.JOB_STATE_SUCCEEDED, JobState.JOB_STATE_PARTIALLY_SUCCEEDED)


@dataclass(frozen=True)
class BatchJob:
    """A batch prediction on Vertex AI.

    Attributes:
        name: projects/P/locations/L/batchPredictionJobs/NUMBER.
        link: of its page in the console.
        version: number of the model's version.
        n_images: that it embeds.
        is_new: whether this call has begun it; False: it was there already.
        state: such as PENDING or SUCCEEDED.
    """

    name: str
    link: str
    version: str
    n_images: int
    is_new: bool
    state: str


def embed(vertex: VertexConfig, images: str, output: str, *, version: str = CHAMPION) -> BatchJob:
    """Begins to embed the images of a folder; a job that does so, or has done so, is found and not repeated.

    Vertex AI hands each file's bytes to the version's `serving_default`, whose answer has h as `embedding`. A list of
    the files is put into the output folder first, since Vertex AI takes no folder.

    Args:
        vertex: with `project` and `registry.model`.
        images: folder on gs://.
        output: folder on gs://, in which the job makes one of its own.
        version: number or alias.

    Raises:
        ConfigError: the configuration names no model, or a folder is not on gs://.
        ServiceError: there is no such version or no image, or Google refuses or does not answer.
    """
    target = target_of(vertex)
    source, destination = _folder("images", images), _folder("output", output)
    with explained(vertex, "embed"):
        number = Registry(target).version(version).version_id
        files = storage.Client(project=target.project)
        found = _images(files, source)
        model = f"{target.model_name}@{number}"
        key = _digest(model, destination, *(f"{image}#{generation}" for image, generation in found.items()))
        listed = f"{destination}/images-{key}.txt"
        name = f"{target.registry.model}-embeddings-{key}"
        wanted = _job(target, model, name=name, listed=listed, output=destination)
        jobs = _client(target)

        def begin() -> BatchPredictionJob:
            write(files, listed, "".join(f"{image}\n" for image in found))
            return jobs.create_batch_prediction_job(parent=target.place, batch_prediction_job=wanted, **BEGIN)

        job, is_new = _once(jobs, target.place, name, begin=begin)
    link = f"{CONSOLE}/{target.region}/batch-predictions/{job.name.rpartition('/')[2]}?project={target.project}"
    return BatchJob(job.name, link, number, len(found), is_new, _state_name(job))


def follow(
    vertex: VertexConfig, name: str, *, say: Callable[[str], None], wait: Callable[[float], None] = time.sleep
) -> str:
    """Says each state of a job until it has ended well.

    Args:
        vertex: as of `embed`.
        name: projects/P/locations/L/batchPredictionJobs/NUMBER.
        say: takes a line.
        wait: takes the seconds between two looks.

    Returns:
        The folder of the embeddings.

    Raises:
        ServiceError: the job failed or was cancelled, an image has no embedding, or Vertex AI does not answer.
    """
    said = None
    with explained(vertex, "follow"):
        client = _client(target_of(vertex))
        while True:
            job = client.get_batch_prediction_job(name=name, **CALL)
            state = _state_name(job)
            if state != said:
                say(state.lower())
            said = state
            if job.state in (*_FAILED, *_DONE):
                break
            wait(_POLL_S)
    if job.state in _FAILED:
        raise ServiceError(f"the job ended {state}: {job.error.message or 'without a message'}{_causes(job)}")
    folder, counts = job.output_info.gcs_output_directory, job.completion_stats
    # The second is −1 where nobody knows.
    n_missing = counts.failed_count + max(counts.incomplete_count, 0)
    if n_missing:
        raise ServiceError(
            f"{counts.successful_count} of {counts.successful_count + n_missing} images are embedded, in {folder}; "
            f"its files of errors tell of the others{_causes(job)}"
        )
    return folder


def _client(target: Target) -> JobServiceClient:
    return JobServiceClient(client_options=ClientOptions(api_endpoint=target.host))


def _folder(what: str, path: str) -> str:
    """The path without slashes at its end."""
    if not _FOLDER.match(path):
        raise ConfigError(f"{what} = {path}: Vertex AI reads and writes Cloud Storage only; give gs://bucket/folder")
    return path.rstrip("/")


def _images(files: storage.Client, folder: str) -> dict[str, int]:
    """The images below a folder, each with the generation of its content."""
    bucket, _, path = folder.removeprefix("gs://").partition("/")
    root = f"{path}/" if path else ""
    objects = files.list_blobs(
        bucket, prefix=root, fields="items(name,generation),nextPageToken", retry=STORAGE_RETRY
    )
    found = {
        f"gs://{bucket}/{item.name}": item.generation
        for item in objects
        if item.name.lower().endswith(_SUFFIXES) and not is_hidden(item.name[len(root) :])
    }
    if not found:
        raise ServiceError(f"no image in {folder}: its files must end in one of {', '.join(_SUFFIXES)}")
    return found


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:_DIGEST_LENGTH]


def _job(target: Target, model: str, *, name: str, listed: str, output: str) -> BatchPredictionJob:
    registry = target.registry
    job = BatchPredictionJob(
        display_name=name,
        model=model,
        # Each file on the list becomes {"b64": its bytes}, which a signature of one input takes as that input.
        input_config=BatchPredictionJob.InputConfig(
            instances_format="file-list", gcs_source=aiplatform_v1.GcsSource(uris=[listed])
        ),
        output_config=BatchPredictionJob.OutputConfig(
            predictions_format="jsonl",
            gcs_destination=aiplatform_v1.GcsDestination(output_uri_prefix=output),
        ),
        dedicated_resources=aiplatform_v1.BatchDedicatedResources(
            machine_spec=aiplatform_v1.MachineSpec(machine_type=registry.machine_type),
            starting_replica_count=registry.min_replicas,
            max_replica_count=registry.max_replicas,
        ),
        manual_batch_tuning_parameters=aiplatform_v1.ManualBatchTuningParameters(batch_size=_BATCH_SIZE),
        service_account=target.service_account,
        labels=target.labels,
    )
    if target.kms_key:
        job.encryption_spec.kms_key_name = target.kms_key
    return job


def _once(
    client: JobServiceClient, parent: str, name: str, *, begin: Callable[[], BatchPredictionJob]
) -> tuple[BatchPredictionJob, bool]:
    """Begins a job unless one of its name is there that has not failed; a lost answer does not begin a second."""
    failed: set[str] | None = None
    is_new = False

    def attempt() -> BatchPredictionJob:
        nonlocal failed, is_new
        request = {"parent": parent, "filter": f'display_name="{name}"'}
        jobs = list(client.list_batch_prediction_jobs(request=request, **CALL))
        if failed is None:
            # Of these only: one that fails from now on may be what an attempt without an answer has begun.
            failed = {job.name for job in jobs if job.state in _FAILED}
        for job in jobs:
            if job.name not in failed:
                return job
        is_new = True
        return begin()

    return RETRY(attempt)(), is_new


def _state_name(job: BatchPredictionJob) -> str:
    return job.state.name.removeprefix("JOB_STATE_")


def _causes(job: BatchPredictionJob) -> str:
    """The partial failures, of which Vertex AI tells twenty at most, each in a line."""
    return "".join(f"\n{failure.message}" for failure in job.partial_failures)
