"""Starts a compiled job on Vertex AI, once: by hand and by the service on Cloud Run alike.

By REST, and without TFX or Google's client of Vertex AI, so that the service's image stays small.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from google.api_core import exceptions

from pipeline.runners.google_rest import Rest

_DIGEST_LENGTH = 16
_STATE = "PIPELINE_STATE_"
# All others are of a run that still does something, or may go on.
_ENDED = ("SUCCEEDED", "FAILED", "CANCELLED")


@dataclass(frozen=True)
class Job:
    """A run on Vertex AI.

    Attributes:
        name: projects/P/locations/L/pipelineJobs/ID.
        state: such as PENDING or FAILED.
        is_new: whether this call has made it.
    """

    name: str
    state: str
    is_new: bool = False


class Jobs:
    """The pipeline jobs of a project in a region.

    Args:
        rest: with the credentials of whoever starts runs.
        project: Google Cloud project.
        region: of the jobs.
        address: of Vertex AI; None: Google's for the region.
    """

    def __init__(self, rest: Rest, project: str, region: str, *, address: str | None = None) -> None:
        self._rest = rest
        self._parent = f"projects/{project}/locations/{region}"
        self._url = f"{address or f'https://{region}-aiplatform.googleapis.com'}/v1/{self._parent}/pipelineJobs"

    def find(self, run_id: str) -> Job | None:
        """The run of this id, in whatever state it is.

        Raises:
            GoogleAPIError: Vertex AI refuses, or does not answer.
        """
        try:
            return _of(self._rest.get(f"{self._url}/{run_id}"))
        except exceptions.NotFound:
            return None

    def active(self, pipeline: str) -> Job | None:
        """A run of the pipeline that has not ended, whoever started it; None: there is none.

        Raises:
            GoogleAPIError: Vertex AI refuses, or does not answer.
        """
        wanted = " AND ".join([f'pipeline_name="{pipeline}"', *(f'state!="{_STATE}{state}"' for state in _ENDED)])
        token = ""
        while True:
            page = self._rest.get(self._url, filter=wanted, readMask="name,state", pageToken=token)
            for found in map(_of, page.get("pipelineJobs", [])):
                if found.state not in _ENDED:
                    return found
            token = page.get("nextPageToken", "")
            if not token:
                return None

    def start(self, run_id: str, job: Mapping[str, Any]) -> Job:
        """Starts a run unless there is one of this id, which is then returned; a lost answer starts no second one.

        Args:
            run_id: see `job_id`.
            job: a PipelineJob as Vertex AI's REST interface takes it.

        Raises:
            GoogleAPIError: Vertex AI refuses, or does not answer.
        """
        return self.find(run_id) or self.create(run_id, job)

    def create(self, run_id: str, job: Mapping[str, Any]) -> Job:
        """Starts a run that was not there; see `start`."""
        lost: list[Exception] = []
        try:
            made = self._rest.post(self._url, dict(job), on_error=lost.append, pipelineJobId=run_id)
        except exceptions.AlreadyExists:
            found = self.find(run_id)
            if found is None:
                raise
            # By an earlier attempt, whose answer was lost; without one, by somebody else since we looked.
            return replace(found, is_new=bool(lost))
        return _of(made, is_new=True)


def job_id(*parts: bytes | str) -> str:
    """An id of a run, the same for the same parts; no part contains a zero byte, but the first may."""
    digest = hashlib.sha256(b"\0".join(part if isinstance(part, bytes) else part.encode() for part in parts))
    return f"simclr-{digest.hexdigest()[:_DIGEST_LENGTH]}"


def _of(resource: Mapping[str, Any], *, is_new: bool = False) -> Job:
    return Job(resource["name"], resource.get("state", f"{_STATE}UNSPECIFIED").removeprefix(_STATE), is_new)
