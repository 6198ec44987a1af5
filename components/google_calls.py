"""Calls of Google's services: what is tried again, what is begun once, and refusals in words that say what to do."""

import concurrent.futures
import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from google.api_core import exceptions
from google.api_core.operation import Operation
from google.api_core.retry import Retry, if_exception_type
from google.auth.exceptions import GoogleAuthError

_ATTEMPT_TIMEOUT_S = 60
_OPERATION_TIMEOUT_S = 3600
_PASSING = (exceptions.TooManyRequests, exceptions.ServiceUnavailable, exceptions.GatewayTimeout)
# gRPC calls it UNAVAILABLE when the credentials themselves could not be refreshed; no further attempt helps.
_NO_TOKEN = "Getting metadata from plugin failed"
LOGIN = (
    "no valid Google credentials: `gcloud auth application-default login`, or GOOGLE_APPLICATION_CREDENTIALS with "
    "the path of a service account's key"
)
_T = TypeVar("_T")


def passes(error: BaseException) -> bool:
    """Whether a further attempt may help: 429, 503, a deadline."""
    return isinstance(error, _PASSING) and _NO_TOKEN not in str(error)


# 429, 503 and deadlines, with waits that grow and vary, for five minutes.
RETRY = Retry(predicate=passes, initial=1.0, maximum=30.0, multiplier=2.0, timeout=300.0)
# Of every call of a client.
CALL: dict[str, Any] = {"retry": RETRY, "timeout": _ATTEMPT_TIMEOUT_S}
# Of the call that begins work: not repeated by itself, since its answer may be lost after the work was begun.
BEGIN: dict[str, Any] = {"retry": None, "timeout": _ATTEMPT_TIMEOUT_S}


class ServiceError(RuntimeError):
    """A service refused a call, did not answer, or ran a pipeline that failed; the message says what to do."""


class _UnfinishedError(RuntimeError):
    """An operation has not ended yet."""


_POLL = Retry(
    predicate=if_exception_type(_UnfinishedError),
    initial=1.0,
    maximum=20.0,
    multiplier=2.0,
    timeout=_OPERATION_TIMEOUT_S,
)


def done_once(
    client: Any, resource: str, *, find: Callable[[], _T | None], begin: Callable[[], Operation]
) -> tuple[_T, bool]:
    """Does long-running work on a resource unless it is done or under way; a lost answer does not do it twice.

    Every attempt first looks for the result, then waits for what an attempt without an answer may have begun.

    Args:
        client: of the service.
        resource: name of the model or endpoint that the work belongs to.
        find: the result; None if it is not there.
        begin: starts the work, by a call with BEGIN.

    Returns:
        The result, and whether this call has made it.

    Raises:
        ServiceError: the work does not end, or leaves no result.
        google.api_core.exceptions.GoogleAPIError: the service refuses, or stays busy.
    """
    is_new = False

    def attempt() -> _T:
        nonlocal is_new
        found = find()
        if found is None and _wait_for_unfinished(client, resource):
            found = find()
        if found is not None:
            return found
        is_new = True
        outcome(begin())
        made = find()
        if made is None:
            raise ServiceError(f"{resource}: the service says that the work is done, and has no result: try again")
        return made

    retry = RETRY.with_predicate(lambda error: passes(error) or isinstance(error, exceptions.AlreadyExists))
    return retry(attempt)(), is_new


def outcome(operation: Operation) -> Any:
    """Waits for a long-running operation; returns its result, or raises its failure."""
    try:
        return operation.result(timeout=_OPERATION_TIMEOUT_S, retry=RETRY)
    except concurrent.futures.TimeoutError as error:
        raise ServiceError(f"{operation.operation.name} goes on after {_OPERATION_TIMEOUT_S} s: {error}") from error


def _wait_for_unfinished(client: Any, resource: str) -> bool:
    """Waits for the operations on a resource to end, well or not; says whether there were any."""
    try:
        listed = client.list_operations(request={"name": resource}, **CALL)
    except exceptions.NotFound:
        return False
    unfinished = [operation for operation in listed.operations if not operation.done]
    for pending in unfinished:
        # A failure is told to whoever has begun it; here it means that the work is to be begun once more.
        _POLL(_look_at)(client, pending.name)
    return bool(unfinished)


def _look_at(client: Any, operation: str) -> None:
    if not client.get_operation(request={"name": operation}, **CALL).done:
        raise _UnfinishedError(f"{operation} goes on after {_OPERATION_TIMEOUT_S} s")


@contextlib.contextmanager
def explained(doing: str, *, project: str | None, service_account: str | None) -> Iterator[None]:
    """Turns Google's errors into a ServiceError.

    Args:
        doing: what was being done, the beginning of the message.
        project: that the words name.
        service_account: that the words name.
    """
    try:
        yield
    except (exceptions.GoogleAPIError, GoogleAuthError) as error:
        raise ServiceError(f"{doing}: {_remedy(error, project, service_account)}") from error


def _remedy(error: Exception, project: str | None, account: str | None) -> str:
    last = error.cause if isinstance(error, exceptions.RetryError) and error.cause else error
    said = getattr(last, "message", None) or str(last)
    if isinstance(last, GoogleAuthError | exceptions.Unauthenticated) or _NO_TOKEN in said:
        return f"{LOGIN} ({said})"
    if isinstance(last, exceptions.PermissionDenied):
        return f"{said}\n{_permission(said, project, account)}"
    if isinstance(last, exceptions.TooManyRequests):
        return f"{said}\na quota is used up, also after {RETRY.timeout:.0f} s of attempts: ask for more, or wait"
    if isinstance(last, _PASSING):
        return f"{said}\nno answer in {RETRY.timeout:.0f} s of attempts: the same command again does nothing twice"
    return said


def _permission(said: str, project: str | None, account: str | None) -> str:
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
