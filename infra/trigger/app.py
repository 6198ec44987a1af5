"""The service over HTTP: /new-data for Eventarc, /run for Cloud Scheduler, /health for Cloud Run.

Eventarc delivers by Pub/Sub, which sends again whatever is not answered with 2xx, for a day, after waits of up to ten
minutes. So 2xx says that nothing remains to be done, also where nothing will ever come of an event; all else asks for
it once more.
"""

import json
import logging
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import google.auth
from google.api_core import exceptions
from google.auth.exceptions import GoogleAuthError
from werkzeug import Request, Response
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.routing import Map, Rule

from components.google_calls import RETRY, passes
from infra.trigger import events, identity, runs, settings
from infra.trigger.events import MalformedError, NotOursError
from infra.trigger.identity import Identity, NoKeysError, StrangerError, UnauthenticatedError
from infra.trigger.runs import Outcome, Runs, Started
from infra.trigger.settings import Settings
from pipeline.runners.google_rest import Rest
from pipeline.runners.job_template import TemplateError
from pipeline.runners.vertex_jobs import Jobs, job_id

_LOG = logging.getLogger("infra.trigger")
_CLOUD = "https://www.googleapis.com/auth/cloud-platform"
# An object's name has at most 1 kB, its metadata 8 kB.
_MAX_BODY_BYTES = 64 * 1024
# Four calls at most, each of which may end late by one attempt, end before Cloud Run's 120 s.
_RETRY_S, _ATTEMPT_TIMEOUT_S = 15.0, 10
_BUSY_RETRY_AFTER_S = 600
_SCHEDULE_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")
_SCHEDULE_NAME = re.compile(r"[\w./-]{0,500}")
_TRACE = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True)
class Addresses:
    """Where Google's services answer; None: Vertex AI's of the region."""

    certificates: str = identity.CERTIFICATES
    storage: str = runs.STORAGE
    vertex: str | None = None


class Application:
    """The WSGI application.

    Args:
        given: see Settings.
        caller: who may call.
        starts: what is started.
    """

    def __init__(self, given: Settings, caller: Identity, starts: Runs) -> None:
        self._settings, self._caller, self._runs = given, caller, starts
        self._routes = Map(
            [
                Rule("/health", methods=["GET"], endpoint=self._health),
                Rule("/new-data", methods=["POST"], endpoint=self._guarded(self._new_data)),
                Rule("/run", methods=["POST"], endpoint=self._guarded(self._run)),
            ],
            merge_slashes=False,
        )

    def __call__(self, environment: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = Request(environment)
        try:
            endpoint, _ = self._routes.bind_to_environ(environment).match()
            response = endpoint(request)
        except HTTPException as problem:
            response = self._said(request, logging.WARNING, problem.code, problem.name)
        return response(environment, start_response)

    def _health(self, request: Request) -> Response:
        return Response("ok\n", mimetype="text/plain")

    def _guarded(self, answer: Callable[[Request], Response]) -> Callable[[Request], Response]:
        """The answer for the account that may call; for others, and where Google's services fail, a refusal."""

        def guarded(request: Request) -> Response:
            try:
                self._caller.check(request.headers)
                return answer(request)
            except UnauthenticatedError as problem:
                return self._said(request, logging.WARNING, 401, str(problem), {"WWW-Authenticate": "Bearer"})
            except StrangerError as problem:
                return self._said(request, logging.WARNING, 403, str(problem))
            except MalformedError as problem:
                return self._said(request, logging.WARNING, 400, str(problem))
            except (NoKeysError, TemplateError) as problem:
                return self._said(request, logging.ERROR, 503, str(problem))
            except (exceptions.GoogleAPIError, GoogleAuthError) as problem:
                return self._said(request, logging.ERROR, *_refusal(problem))

        return guarded

    def _new_data(self, request: Request) -> Response:
        if request.mimetype not in (events.BINARY, events.STRUCTURED):
            return self._said(request, logging.WARNING, 415, f"{events.BINARY} or {events.STRUCTURED}, please")
        event = events.read(request.mimetype, request.headers, _body(request))
        try:
            marker = events.marker(event, bucket=self._settings.bucket, name=self._settings.marker)
        except NotOursError as problem:
            self._log(request, logging.WARNING, f"ignored: {problem}", event=event.id)
            return Response(status=204)
        if marker is None:
            return Response(status=204)
        # Neither the event's id nor its time: the same object may be told of by several events.
        run_id = job_id("new-data", marker.bucket, marker.name, str(marker.generation))
        done = self._runs.start(run_id, by="new-data")
        fields = {"event": event.id, "object": f"gs://{marker.bucket}/{marker.name}", "generation": marker.generation}
        if done.outcome is Outcome.BUSY:
            words = f"busy: {done.name or 'another start'} goes on"
            headers = {"Retry-After": str(_BUSY_RETRY_AFTER_S)}
            return self._said(request, logging.INFO, 429, words, headers, **fields)
        return self._told(request, done, done.outcome.value, **fields)

    def _run(self, request: Request) -> Response:
        due = request.headers.get("X-CloudScheduler-ScheduleTime", "")
        name = request.headers.get("X-CloudScheduler-JobName", "")
        if not _SCHEDULE_TIME.fullmatch(due) or not _SCHEDULE_NAME.fullmatch(name):
            raise MalformedError("X-CloudScheduler-ScheduleTime must tell when the run was due")
        done = self._runs.start(job_id("schedule", name, due), by="schedule")
        # As Vertex AI's schedules do: what comes due while a run goes on is skipped, not made up for.
        status = "skipped" if done.outcome is Outcome.BUSY else done.outcome.value
        return self._told(request, done, status, due=due)

    def _told(self, request: Request, done: Started, status: str, **fields: Any) -> Response:
        self._log(request, logging.INFO, status, job=done.name, state=done.state, template=done.digest, **fields)
        content = {"status": status, "job": done.name.rpartition("/")[2], "state": done.state}
        return Response(json.dumps(content), status=200, mimetype="application/json")

    def _said(
        self,
        request: Request,
        level: int,
        status: int,
        words: str,
        headers: dict[str, str] | None = None,
        **fields: Any,
    ) -> Response:
        self._log(request, level, words, status=status, **fields)
        return Response(json.dumps({"error": words}), status=status, headers=headers, mimetype="application/json")

    def _log(self, request: Request, level: int, message: str, **fields: Any) -> None:
        """Nothing of a request's headers or body goes in, but what has been checked."""
        trace = _TRACE.match(request.headers.get("X-Cloud-Trace-Context", ""))
        if trace:
            fields["logging.googleapis.com/trace"] = f"projects/{self._settings.project}/traces/{trace[0]}"
        _LOG.log(level, message, extra={"fields": fields})


def _body(request: Request) -> bytes:
    """The body, of which no more is read than one may have."""
    # Of a body in chunks, whose length nobody tells, what is over the limit is left out silently; a byte tells of it.
    request.max_content_length = _MAX_BODY_BYTES + 1
    body = request.get_data()
    if len(body) > _MAX_BODY_BYTES:
        raise RequestEntityTooLarge
    return body


def _refusal(problem: Exception) -> tuple[int, str]:
    """Status and words where a service of Google fails: 503 where waiting may help, else 500."""
    last = problem.cause if isinstance(problem, exceptions.RetryError) and problem.cause else problem
    if passes(last) or isinstance(last, GoogleAuthError):
        return 503, f"not now: {last}"
    if isinstance(last, exceptions.Forbidden):
        return 500, f"the service lacks a role; those of `submitter` are in docs/infra.md: {last}"
    return 500, f"refused: {last}"


def create_app(addresses: Addresses = Addresses()) -> Application:
    """The application as the environment has it; credentials are looked for now.

    Raises:
        SettingsError: a variable of the environment is missing or wrong.
    """
    given = settings.from_environment(os.environ)
    credentials, _ = google.auth.default(scopes=[_CLOUD])
    rest = Rest(credentials, retry=RETRY.with_timeout(_RETRY_S), attempt_timeout_s=_ATTEMPT_TIMEOUT_S)
    jobs = Jobs(rest, given.project, given.region, address=addresses.vertex)
    starts = Runs(jobs, lambda: runs.deployed_template(rest, given, storage=addresses.storage))
    return Application(given, Identity(given, certificates=addresses.certificates), starts)
