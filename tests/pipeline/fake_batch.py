"""The part of the fake Vertex AI that keeps batch predictions."""

import re
from collections.abc import Callable

import grpc
from fake_registry import Refusal, listed, resource_of
from google.cloud.aiplatform_v1 import types
from google.protobuf import empty_pb2
from google.rpc import status_pb2

Job = types.BatchPredictionJob
# Jobs on a page of a list: a client that reads only the first is found out.
_PAGE = 2


class BatchJobs:
    """Batch predictions of the models beside which this is kept.

    Attributes:
        batch_jobs: by resource name, oldest first.
    """

    SERVICES = {
        "JobService": {
            "CreateBatchPredictionJob": types.CreateBatchPredictionJobRequest,
            "GetBatchPredictionJob": types.GetBatchPredictionJobRequest,
            "ListBatchPredictionJobs": types.ListBatchPredictionJobsRequest,
            "CancelBatchPredictionJob": types.CancelBatchPredictionJobRequest,
        }
    }

    def __init__(self) -> None:
        super().__init__()
        self.batch_jobs: dict[str, Job] = {}
        self._batch_steps: list[Callable[[Job], None]] = []

    def script_batch(self, *steps: Callable[[Job], None]) -> None:
        """Each look at a batch prediction first lets one of these happen to it."""
        self._batch_steps.extend(steps)

    def _CreateBatchPredictionJob(self, request: types.CreateBatchPredictionJobRequest) -> Job:
        job = request.batch_prediction_job
        name, _, version_id = job.model.partition("@")
        if version_id not in [version.version_id for version in resource_of(self.versions, name)]:
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"{job.model} not found")
        places = [*job.input_config.gcs_source.uris, job.output_config.gcs_destination.output_uri_prefix]
        formats = (job.input_config.instances_format, job.output_config.predictions_format)
        if formats != ("file-list", "jsonl") or not all(re.match("gs://[^/]", place) for place in places):
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"{formats} {places}")
        job.name = f"{request.parent}/batchPredictionJobs/{len(self.batch_jobs) + 1}"
        job.state = types.JobState.JOB_STATE_PENDING
        self.batch_jobs[job.name] = job
        return job

    def _GetBatchPredictionJob(self, request: types.GetBatchPredictionJobRequest) -> Job:
        job = resource_of(self.batch_jobs, request.name)
        if self._batch_steps:
            self._batch_steps.pop(0)(job)
        return job

    def _ListBatchPredictionJobs(
        self, request: types.ListBatchPredictionJobsRequest
    ) -> types.ListBatchPredictionJobsResponse:
        found = list(listed(self.batch_jobs, request))[::-1]
        first = int(request.page_token or 0)
        following = str(first + _PAGE) if first + _PAGE < len(found) else ""
        return types.ListBatchPredictionJobsResponse(
            batch_prediction_jobs=found[first : first + _PAGE], next_page_token=following
        )

    def _CancelBatchPredictionJob(self, request: types.CancelBatchPredictionJobRequest) -> empty_pb2.Empty:
        resource_of(self.batch_jobs, request.name).state = types.JobState.JOB_STATE_CANCELLED
        return empty_pb2.Empty()


def batch(state: str, *, error: str = "", failures: tuple[str, ...] = (), **counts: int) -> Callable[[Job], None]:
    """A step of a script: the job comes into this state.

    Args:
        state: such as RUNNING.
        error: of the job.
        failures: of single files.
        counts: successful_count, failed_count and incomplete_count of the images.
    """

    def step(job: Job) -> None:
        job.state = types.JobState[f"JOB_STATE_{state}"]
        job.partial_failures = [status_pb2.Status(code=3, message=failure) for failure in failures]
        if error:
            job.error = {"code": 3, "message": error}
        job.completion_stats = types.CompletionStats(**counts)
        prefix = job.output_config.gcs_destination.output_uri_prefix
        job.output_info = Job.OutputInfo(gcs_output_directory=f"{prefix}/prediction-simclr-2026")

    return step
