"""Google's REST services as the checks ask them: again when busy, and with refusals as exceptions."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import requests
from google.api_core import exceptions
from google.auth.credentials import Credentials
from google.auth.transport.requests import AuthorizedSession

from pipeline.runners.vertex_calls import RETRY
from pipeline.runners.vertex_preflight.findings import Finding, not_checked

_ATTEMPT_TIMEOUT_S = 30
# A look before a run is not worth five minutes of attempts.
_RETRY = RETRY.with_timeout(60.0)
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


class Rest:
    """GET and POST of JSON.

    Args:
        credentials: of the person who asks; never written anywhere.
        endpoints: of the services.
    """

    def __init__(self, credentials: Credentials, endpoints: Endpoints) -> None:
        self.endpoints = endpoints
        self._session = AuthorizedSession(credentials)

    def get(self, url: str, **parameters: Any) -> dict[str, Any]:
        """The answer; a parameter that is a list is given once for each item.

        Raises:
            GoogleAPIError: a refusal, or no answer.
            GoogleAuthError: the credentials do not hold.
        """
        return self._ask("GET", url, params=parameters)

    def post(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to a question that is asked by POST; see `get`."""
        return self._ask("POST", url, json=body)

    def _ask(self, method: str, url: str, **arguments: Any) -> dict[str, Any]:
        return _RETRY(self._attempt)(method, url, **arguments)

    def _attempt(self, method: str, url: str, **arguments: Any) -> dict[str, Any]:
        try:
            answer = self._session.request(method, url, timeout=_ATTEMPT_TIMEOUT_S, **arguments)
        except requests.Timeout as problem:
            raise exceptions.GatewayTimeout(f"{url}: no answer in {_ATTEMPT_TIMEOUT_S} s") from problem
        except requests.RequestException as problem:
            # Not there at all: further attempts, for each of the checks, would only keep a person waiting.
            raise exceptions.GoogleAPICallError(f"{url}: {problem}") from problem
        if not answer.ok:
            raise exceptions.from_http_response(answer)
        return answer.json()


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
