"""Google's REST services as the checks ask them, and what a refusal tells."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from google.api_core import exceptions
from google.auth.credentials import Credentials

from pipeline.runners import google_rest
from pipeline.runners.vertex_calls import RETRY, passes
from pipeline.runners.vertex_preflight.findings import Finding, not_checked

_ATTEMPT_TIMEOUT_S = 30
# A look before a run is not worth five minutes of attempts; where nobody answers at all, further ones for each of the
# checks would only keep a person waiting.
_RETRY = RETRY.with_timeout(60.0).with_predicate(
    lambda error: passes(error) and not isinstance(error, google_rest.NoConnectionError)
)
_API_IS_OFF = ("SERVICE_DISABLED", "has not been used", "it is disabled")


@dataclass(frozen=True)
class Endpoints:
    """Where the services answer."""

    resource_manager: str = "https://cloudresourcemanager.googleapis.com"
    service_usage: str = "https://serviceusage.googleapis.com"
    iam: str = "https://iam.googleapis.com"
    storage: str = "https://storage.googleapis.com"
    artifact_registry: str = "https://artifactregistry.googleapis.com"
    compute: str = "https://compute.googleapis.com"
    kms: str = "https://cloudkms.googleapis.com"


class Rest(google_rest.Rest):
    """GET and POST of JSON.

    Args:
        credentials: of the person who asks; never written anywhere.
        endpoints: of the services.
    """

    def __init__(self, credentials: Credentials, endpoints: Endpoints) -> None:
        super().__init__(credentials, retry=_RETRY, attempt_timeout_s=_ATTEMPT_TIMEOUT_S)
        self.endpoints = endpoints


def part(name: str) -> str:
    """A name as one part of a URL's path."""
    return quote(name, safe="")


def looked(subject: str, check: Callable[[], Iterator[Finding] | Sequence[Finding]]) -> list[Finding]:
    """What a check finds; where it may not look, or gets no answer, that is what was found."""
    try:
        return list(check())
    except exceptions.GoogleAPIError as problem:
        last = problem.cause if isinstance(problem, exceptions.RetryError) and problem.cause else problem
        said = getattr(last, "message", None) or str(last)
        return [not_checked(subject, f"{_reason(last)}: {said}")]


def _reason(problem: Exception) -> str:
    if isinstance(problem, exceptions.Forbidden):
        return "its API is off" if is_off(problem) else "you may not look"
    return "refused" if isinstance(problem, exceptions.ClientError) else "no answer"


def is_off(problem: Exception) -> bool:
    """Whether a refusal means that nobody turned the service on."""
    return any(words in str(problem) for words in _API_IS_OFF)


def not_granted(answer: dict, wanted: tuple[str, ...]) -> list[str]:
    """The permissions that an answer of testIamPermissions lacks."""
    return [name for name in wanted if name not in answer.get("permissions", [])]
