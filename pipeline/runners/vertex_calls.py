"""Calls of Google's services: what is tried again, and refusals in words that say what to do."""

import contextlib
from collections.abc import Iterator
from typing import Any

from google.api_core import exceptions
from google.api_core.retry import Retry
from google.auth.exceptions import GoogleAuthError

from pipeline.cloud import VertexConfig

_ATTEMPT_TIMEOUT_S = 60
_PASSING = (exceptions.TooManyRequests, exceptions.ServiceUnavailable, exceptions.GatewayTimeout)
# gRPC calls it UNAVAILABLE when the credentials themselves could not be refreshed; no further attempt helps.
_NO_TOKEN = "Getting metadata from plugin failed"
LOGIN = (
    "no valid Google credentials: `gcloud auth application-default login`, or GOOGLE_APPLICATION_CREDENTIALS with "
    "the path of a service account's key"
)


def _passes(error: BaseException) -> bool:
    return isinstance(error, _PASSING) and _NO_TOKEN not in str(error)


# 429, 503 and deadlines, with waits that grow and vary, for five minutes.
RETRY = Retry(predicate=_passes, initial=1.0, maximum=30.0, multiplier=2.0, timeout=300.0)
# Of every call of a client.
CALL: dict[str, Any] = {"retry": RETRY, "timeout": _ATTEMPT_TIMEOUT_S}


class ServiceError(RuntimeError):
    """A service refused a call, did not answer, or ran a pipeline that failed; the message says what to do."""


@contextlib.contextmanager
def explained(vertex: VertexConfig, doing: str) -> Iterator[None]:
    """Turns Google's errors into a ServiceError.

    Args:
        vertex: whose project and service account the words name.
        doing: what was being done, the beginning of the message.
    """
    try:
        yield
    except (exceptions.GoogleAPIError, GoogleAuthError) as error:
        raise ServiceError(f"{doing}: {_remedy(error, vertex)}") from error


def _remedy(error: Exception, vertex: VertexConfig) -> str:
    last = error.cause if isinstance(error, exceptions.RetryError) and error.cause else error
    said = getattr(last, "message", None) or str(last)
    if isinstance(last, GoogleAuthError | exceptions.Unauthenticated) or _NO_TOKEN in said:
        return f"{LOGIN} ({said})"
    if isinstance(last, exceptions.PermissionDenied):
        return f"{said}\n{_permission(said, vertex)}"
    if isinstance(last, exceptions.TooManyRequests):
        return f"{said}\na quota is used up, also after {RETRY.timeout:.0f} s of attempts: ask for more, or wait"
    if isinstance(last, _PASSING):
        return f"{said}\nno answer in {RETRY.timeout:.0f} s of attempts: the same command again does nothing twice"
    return said


def _permission(said: str, vertex: VertexConfig) -> str:
    project, account = vertex.project, vertex.service_account
    if "has not been used" in said or "SERVICE_DISABLED" in said:
        return f"the API is off: gcloud services enable aiplatform.googleapis.com --project {project}"
    if account and ("actAs" in said or account in said):
        return (
            f"you may not run jobs as {account}: you need roles/iam.serviceAccountUser on it:\n"
            f"gcloud iam service-accounts add-iam-policy-binding {account} --project {project} "
            "--member user:YOU --role roles/iam.serviceAccountUser"
        )
    return (
        f"you need roles/aiplatform.user on the project {project}:\n"
        f"gcloud projects add-iam-policy-binding {project} --member user:YOU --role roles/aiplatform.user"
    )
