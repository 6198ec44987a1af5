"""The fake Vertex AI's pipeline jobs by REST: JSON over HTTP to the same state that its gRPC serves."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

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


@contextmanager
def serving(fake: Any) -> Iterator[str]:
    """Serves on loopback; gives the address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # An answer in one piece: in two, the second would wait for the first to be acknowledged.
        wbufsize = -1

        def _handle(self) -> None:
            url = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            code, content = answer(fake, self.command, url.path, query, body)
            sent = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = _handle  # noqa: N815 - the names that http.server calls

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


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
