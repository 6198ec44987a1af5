"""Starts what was deployed: one run for each occasion, and never beside a run that still goes on."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from urllib.parse import quote

from google.api_core import exceptions

from infra.trigger.settings import Settings
from pipeline.runners import job_template
from pipeline.runners.google_rest import Rest
from pipeline.runners.job_template import Template, TemplateError
from pipeline.runners.vertex_jobs import Jobs

STORAGE = "https://storage.googleapis.com"
_LABEL_LENGTH = 16
# For another start in this process, which asks Vertex AI four questions.
_LONGEST_WAIT_S = 30


class Outcome(Enum):
    """What became of an occasion."""

    STARTED = "started"
    ALREADY = "already started"
    BUSY = "busy"


@dataclass(frozen=True)
class Started:
    """An outcome and the run that it is about: the new one, the one of the same occasion, or the one that goes on.

    Attributes:
        outcome: see Outcome.
        name: projects/P/locations/L/pipelineJobs/ID; empty where another start takes too long.
        state: of the run, such as PENDING.
        digest: of the template that was started; else empty.
    """

    outcome: Outcome
    name: str = ""
    state: str = ""
    digest: str = ""


class Runs:
    """The runs of one pipeline.

    Args:
        jobs: of Vertex AI.
        read_template: what is deployed now.
    """

    def __init__(self, jobs: Jobs, read_template: Callable[[], Template]) -> None:
        self._jobs = jobs
        self._read_template = read_template
        self._lock = threading.Lock()

    def start(self, run_id: str, *, by: str) -> Started:
        """Starts the run of an occasion, unless it was started before or a run of the pipeline goes on.

        Looking for a run that goes on and starting one are two calls, so starts wait for each other here. Between two
        instances of the service nobody keeps them apart: Terraform allows one.

        Args:
            run_id: the same for the same occasion.
            by: what starts it, for the run's labels.

        Raises:
            TemplateError: nothing is deployed, or not what this service may start.
            GoogleAPIError: Vertex AI or Cloud Storage refuses, or does not answer.
        """
        if not self._lock.acquire(timeout=_LONGEST_WAIT_S):
            return Started(Outcome.BUSY)
        try:
            return self._start(run_id, by)
        finally:
            self._lock.release()

    def _start(self, run_id: str, by: str) -> Started:
        found = self._jobs.find(run_id)
        if found:
            return Started(Outcome.ALREADY, found.name, found.state)
        template = self._read_template()
        active = self._jobs.active(template.pipeline)
        if active:
            return Started(Outcome.BUSY, active.name, active.state)
        labels = {"simclr-by": by, "simclr-template": template.digest[:_LABEL_LENGTH]}
        job = template.job | {"labels": template.job.get("labels", {}) | labels}
        made = self._jobs.create(run_id, job)
        outcome = Outcome.STARTED if made.is_new else Outcome.ALREADY
        return Started(outcome, made.name, made.state, template.digest)


def deployed_template(rest: Rest, settings: Settings, *, storage: str = STORAGE) -> Template:
    """Reads what `make deploy` has left, and refuses what another account would run or what would write elsewhere.

    Whoever can write to the bucket of runs could otherwise let this service start anything as any account that it
    may act as.

    Args:
        rest: with the service's credentials.
        settings: with the pipeline root and the account.
        storage: address of Cloud Storage.

    Raises:
        TemplateError: there is none, it is not whole, or it is of another account or root.
        GoogleAPIError: Cloud Storage refuses, or does not answer.
    """
    uri = job_template.uri(settings.pipeline_root)
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    try:
        content = rest.read(f"{storage}/storage/v1/b/{bucket}/o/{quote(name, safe='')}", alt="media")
    except exceptions.NotFound as problem:
        raise TemplateError(f"{uri} is not there: `make deploy` first") from problem
    template = job_template.load(content)
    runtime = template.job.get("runtimeConfig") or {}
    found = {
        "serviceAccount": (template.job.get("serviceAccount"), settings.service_account),
        "gcsOutputDirectory": (str(runtime.get("gcsOutputDirectory", "")).rstrip("/"), settings.pipeline_root),
    }
    for field, (value, wanted) in found.items():
        if value != wanted:
            raise TemplateError(f"{uri}: its {field} is {value!r}, this service starts {wanted!r} only")
    return template
