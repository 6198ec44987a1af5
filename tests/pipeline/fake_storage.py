"""A Cloud Storage on loopback for the tests: HTTP as the unmodified client speaks it: lists, uploads, downloads."""

import email
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

# Objects on a page of a list: a client that reads only the first is found out.
_PAGE = 2


class FakeStorage:
    """The objects of some buckets.

    Attributes:
        contents: of objects by their gs:// URI.
        generations: by URI; a new one with each content.
        refusals: HTTP codes of the next answers; 0 is none at all, the connection closed.
        uploads: how many were tried.
    """

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.generations: dict[str, int] = {}
        self.refusals: list[int] = []
        self.uploads = 0

    def put(self, *uris: str, content: bytes = b"") -> None:
        for uri in uris:
            self.contents[uri] = content
            self.generations[uri] = 1 + max(self.generations.values(), default=0)

    def text(self, uri: str) -> str:
        return self.contents[uri].decode()

    def listed(self, bucket: str, query: dict[str, list[str]]) -> dict[str, Any]:
        root = f"gs://{bucket}/"
        wanted = root + query.get("prefix", [""])[0]
        found = sorted(uri for uri in self.contents if uri.startswith(wanted))
        first = int(query.get("pageToken", ["0"])[0])
        # As the service does, which tells numbers of 64 bits as text, and only the fields that were asked for.
        assert query["fields"] == ["items(name,generation),nextPageToken"]
        items = [{"name": uri.removeprefix(root), "generation": str(self.generations[uri])} for uri in found]
        page: dict[str, Any] = {"items": items[first : first + _PAGE]}
        return page | ({"nextPageToken": str(first + _PAGE)} if first + _PAGE < len(found) else {})

    def upload(self, bucket: str, content_type: str, body: bytes) -> dict[str, Any]:
        parts = email.message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body).get_payload()
        described, content = (part.get_payload(decode=True) for part in parts)
        name = json.loads(described)["name"]
        self.put(f"gs://{bucket}/{name}", content=content)
        return {"name": name, "bucket": bucket}


@contextmanager
def serving(monkeypatch: Any) -> Iterator[FakeStorage]:
    """Serves on loopback, where every client's calls end."""
    fake = FakeStorage()

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            url = urlsplit(self.path)
            bucket = unquote(url.path.removeprefix("/upload").split("/")[4])
            fake.uploads += self.command == "POST"
            code = fake.refusals.pop(0) if fake.refusals else 200
            if not code:
                self.close_connection = True
                return
            downloaded = parse_qs(url.query).get("alt") == ["media"]
            uri = f"gs://{bucket}/{unquote(url.path.split('/')[-1])}"
            if code == 200 and downloaded and uri not in fake.contents:
                code = 404
            if code != 200:
                answer = {"error": {"message": f"refused {bucket}"}}
            elif downloaded:
                answer = fake.contents[uri]
            elif self.command == "POST":
                answer = fake.upload(bucket, self.headers["Content-Type"], body)
            else:
                answer = fake.listed(bucket, parse_qs(url.query))
            sent = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = _handle  # noqa: N815 - the names that http.server calls

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
