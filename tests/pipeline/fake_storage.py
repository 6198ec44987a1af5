"""A Cloud Storage on loopback for the tests: HTTP as the unmodified client speaks it: lists, uploads, downloads."""

import email
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import unquote

import loopback

# Objects on a page of a list: a client that reads only the first is found out.
_PAGE = 2


class Upload(NamedTuple):
    """An upload in one request.

    Attributes:
        name: of the object in its bucket.
        content_type: of the object.
        content: of the object.
    """

    name: str
    content_type: str
    content: bytes

    @classmethod
    def read(cls, call: loopback.Call) -> "Upload":
        header = f"Content-Type: {call.headers['Content-Type']}\r\n\r\n"
        described, content = email.message_from_bytes(header.encode() + call.body).get_payload()
        # Newer clients tell a checksum, too.
        return cls(
            json.loads(described.get_payload())["name"], content.get_content_type(), content.get_payload(decode=True)
        )


class FakeStorage:
    """The objects of some buckets.

    Attributes:
        contents: of objects by their gs:// URI.
        generations: by URI; a new one with each content.
        refusals: HTTP codes of the next answers; 0 is none at all, the connection closed.
        calls: all that was asked.
    """

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.generations: dict[str, int] = {}
        self.refusals: list[int] = []
        self.calls: list[loopback.Call] = []

    @property
    def uploads(self) -> int:
        """How many were tried."""
        return sum(call.method == "POST" for call in self.calls)

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

    def upload(self, bucket: str, upload: Upload) -> dict[str, Any]:
        self.put(f"gs://{bucket}/{upload.name}", content=upload.content)
        return {"name": upload.name, "bucket": bucket}

    def answer(self, call: loopback.Call) -> loopback.Answer:
        bucket = unquote(call.path.removeprefix("/upload").split("/")[4])
        self.calls.append(call)
        code = self.refusals.pop(0) if self.refusals else 200
        if not code:
            return None
        if code != 200:
            return code, {"error": {"message": f"refused {bucket}"}}
        if call.method == "POST":
            return 200, self.upload(bucket, Upload.read(call))
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
