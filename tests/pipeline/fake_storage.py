"""A Cloud Storage on loopback for the tests: HTTP as the unmodified client speaks it: lists, uploads, downloads."""

import email
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

import loopback

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

    def answer(self, call: loopback.Call) -> loopback.Answer:
        bucket = unquote(call.path.removeprefix("/upload").split("/")[4])
        self.uploads += call.method == "POST"
        code = self.refusals.pop(0) if self.refusals else 200
        if not code:
            return None
        if code != 200:
            return code, {"error": {"message": f"refused {bucket}"}}
        if call.method == "POST":
            return 200, self.upload(bucket, call.headers["Content-Type"], call.body)
        if call.query.get("alt") != ["media"]:
            return 200, self.listed(bucket, call.query)
        uri = f"gs://{bucket}/{unquote(call.path.split('/')[-1])}"
        return (200, self.contents[uri]) if uri in self.contents else (404, {"error": {"message": f"no {uri}"}})


@contextmanager
def serving(monkeypatch: Any) -> Iterator[FakeStorage]:
    """Serves on loopback, where every client's calls end."""
    fake = FakeStorage()
    with loopback.serving(fake.answer) as address:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
        yield fake
