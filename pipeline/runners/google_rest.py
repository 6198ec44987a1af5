"""Google's REST services: JSON, again when busy, refusals as exceptions. Needs neither TFX nor gRPC."""

from collections.abc import Callable
from typing import Any

import requests
from google.api_core import exceptions
from google.api_core.retry import Retry
from google.auth.credentials import Credentials
from google.auth.transport.requests import AuthorizedSession

# Which status of HTTP it is does not tell these from others; services that know the names give them beside it.
_NAMED = {
    "ALREADY_EXISTS": exceptions.AlreadyExists,
    "PERMISSION_DENIED": exceptions.PermissionDenied,
    "UNAUTHENTICATED": exceptions.Unauthenticated,
}


class NoConnectionError(exceptions.ServiceUnavailable):
    """Nobody answers at that address."""


class Rest:
    """GET and POST of JSON.

    Args:
        credentials: of whoever asks; never written anywhere.
        retry: which refusals are tried again, and for how long.
        attempt_timeout_s: of each attempt.
    """

    def __init__(self, credentials: Credentials, *, retry: Retry, attempt_timeout_s: float) -> None:
        self._session = AuthorizedSession(credentials)
        self._retry = retry
        self._attempt_timeout_s = attempt_timeout_s

    def get(self, url: str, **parameters: Any) -> dict[str, Any]:
        """The answer; a parameter that is a list is given once for each item.

        Raises:
            GoogleAPIError: a refusal, or no answer.
            GoogleAuthError: the credentials do not hold.
        """
        return self._ask("GET", url, params=parameters).json()

    def post(
        self, url: str, body: dict[str, Any], *, on_error: Callable[[Exception], Any] | None = None, **parameters: Any
    ) -> dict[str, Any]:
        """The answer to a body of JSON; `on_error` is told of each attempt that is tried again; see `get`."""
        return self._ask("POST", url, on_error=on_error, json=body, params=parameters).json()

    def read(self, url: str, **parameters: Any) -> bytes:
        """The answer as it came; see `get`."""
        return self._ask("GET", url, params=parameters).content

    def _ask(
        self, method: str, url: str, *, on_error: Callable[[Exception], Any] | None = None, **arguments: Any
    ) -> requests.Response:
        return self._retry(self._attempt, on_error=on_error)(method, url, **arguments)

    def _attempt(self, method: str, url: str, **arguments: Any) -> requests.Response:
        try:
            answer = self._session.request(method, url, timeout=self._attempt_timeout_s, **arguments)
        except requests.Timeout as problem:
            raise exceptions.GatewayTimeout(f"{url}: no answer in {self._attempt_timeout_s} s") from problem
        except requests.RequestException as problem:
            raise NoConnectionError(f"{url}: {problem}") from problem
        if not answer.ok:
            raise _refusal(answer)
        return answer


def _refusal(answer: requests.Response) -> exceptions.GoogleAPICallError:
    refusal = exceptions.from_http_response(answer)
    try:
        named = _NAMED.get(answer.json()["error"]["status"], type(refusal))
    except (ValueError, KeyError, TypeError):
        return refusal
    return named(refusal.message, errors=refusal.errors, details=refusal.details, response=answer)
