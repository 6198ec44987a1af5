"""The fake Vertex AI's pipeline jobs by REST: JSON over HTTP to the same state that its gRPC serves."""

import json
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import loopback
import requests
from fake_registry import Refusal
from google.cloud.aiplatform_v1 import types

HOST = re.compile(r"https://([a-z0-9-]+-aiplatform\.googleapis\.com)/")
# As google.rpc.Code says which status of HTTP stands for which of gRPC.
_CODES = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 429,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


def answer(fake: Any, method: str, path: str, query: dict[str, str], body: bytes) -> tuple[int, dict[str, Any]]:
    """What the service says to a call of `projects.locations.pipelineJobs`: its status, and JSON."""
    called, request = _typed(method, path, query, body)
    try:
        response = fake.answer(called, request)
    except Refusal as refusal:
        code = _CODES[refusal.code.name]
        return code, {"error": {"code": code, "message": str(refusal), "status": refusal.code.name}}
    return 200, json.loads(type(response).to_json(response, use_integers_for_enums=False, indent=None))


def _typed(method: str, path: str, query: dict[str, str], body: bytes) -> tuple[str, Any]:
    parent, resource = re.fullmatch(r"/v1/(projects/[^/]+/locations/[^/]+)/pipelineJobs(/[^/]+)?", path).groups()
    if method == "POST" and resource is None:
        # Strict: a field that the service does not have is an error.
        job = types.PipelineJob.from_json(body.decode())
        return "CreatePipelineJob", types.CreatePipelineJobRequest(
            parent=parent, pipeline_job=job, pipeline_job_id=query.pop("pipelineJobId")
        )
    assert method == "GET", (method, path)
    if resource:
        return "GetPipelineJob", types.GetPipelineJobRequest(name=f"{parent}/pipelineJobs{resource}")
    return "ListPipelineJobs", types.ListPipelineJobsRequest(
        parent=parent,
        filter=query.get("filter", ""),
        page_token=query.get("pageToken", ""),
        read_mask={"paths": query["readMask"].split(",")},
    )


def serving(fake: Any) -> AbstractContextManager[str]:
    """Serves on loopback; gives the address."""

    def answered(call: loopback.Call) -> loopback.Answer:
        query = {name: values[0] for name, values in call.query.items()}
        return answer(fake, call.method, call.path, query, call.body)

    return loopback.serving(answered)


@contextmanager
def standing_in(monkeypatch: Any, fake: Any) -> Iterator[None]:
    """Lets what is sent to Vertex AI's own addresses, of whatever region, end at the fake."""
    send = requests.adapters.HTTPAdapter.send

    def redirected(adapter: Any, request: requests.PreparedRequest, **arguments: Any) -> requests.Response:
        meant = HOST.match(request.url)
        if meant:
            fake.hosts.append(f"{meant[1]}:443")
            request.url = HOST.sub(f"{address}/", request.url)
        return send(adapter, request, **arguments)

    with serving(fake) as address:
        monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", redirected)
        yield
