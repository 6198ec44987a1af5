"""A server of HTTP on loopback, for the tests' own Google services, Kubeflow and database of vulnerabilities."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit


class Call(NamedTuple):
    method: str
    path: str  # as it was sent, still quoted, without the query
    query: dict[str, list[str]]
    headers: Mapping[str, str]
    body: bytes

    def as_json(self) -> dict[str, Any]:
        """What was asked for, to be compared: without the headers, in which clients tell their versions."""
        query = {"query": self.query} if self.query else {}
        return {
            "method": self.method,
            "path": self.path,
            **query,
            **({"body": json.loads(self.body)} if self.body else {}),
        }


# The status, and bytes or what becomes JSON. None: the connection is closed without an answer.
Answer = tuple[int, Any] | None


@contextmanager
def serving(answer: Callable[[Call], Answer]) -> Iterator[str]:
    """Lets `answer` speak on a port of its own; gives the address, without a slash at its end."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # An answer in one piece: in two, the second would wait for the first to be acknowledged.
        wbufsize = -1

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            url = urlsplit(self.path)
            answered = answer(Call(self.command, url.path, parse_qs(url.query), self.headers, body))
            if answered is None:
                self.close_connection = True
                return
            code, content = answered
            sent = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = _handle  # noqa: N815 - the names that http.server calls

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    # Clients keep their connections open, and closing the server must not wait for them.
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
