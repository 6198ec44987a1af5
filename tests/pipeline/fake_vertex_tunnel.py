"""The fake Vertex AI for other processes: under Google's own addresses, with TLS, behind a proxy on loopback.

Clients there are as they are in production. What leads them here is in their environment: the proxy, the authority of
its certificates, and the key of a service account that nobody has.
"""

import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fake_vertex
import grpc
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

_REGION_HOST = "us-central1-aiplatform.googleapis.com"
_KEY_BITS = 2048


@contextmanager
def serving(folder: Path) -> Iterator[tuple[fake_vertex.FakeVertex, dict[str, str]]]:
    """Serves until the block ends; gives the fake, and the variables of processes that are to meet it.

    Args:
        folder: gets the authority and the key.
    """
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "authority.pem")
    certificate = authority.issue_cert(_REGION_HOST)
    chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    fake = fake_vertex.FakeVertex()
    server = fake_vertex.server_of(fake)
    port = server.add_secure_port(
        "127.0.0.1:0", grpc.ssl_server_credentials([(certificate.private_key_pem.bytes(), chain)])
    )
    server.start()
    with _Proxy(fake, port) as proxy:
        threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield (
                fake,
                {
                    "grpc_proxy": f"http://127.0.0.1:{proxy.server_address[1]}",
                    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(folder / "authority.pem"),
                    "GOOGLE_APPLICATION_CREDENTIALS": str(_key(folder)),
                    "NO_GCE_CHECK": "true",
                },
            )
        finally:
            proxy.shutdown()
            server.stop(grace=None).wait()


def _key(folder: Path) -> Path:
    """The key of an account; a token is made of it by the client itself, and nobody is asked for one."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    key = {
        "type": "service_account",
        "project_id": "my-project",
        "private_key_id": "1",
        "private_key": pem.decode(),
        "client_email": "nobody@my-project.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": "http://127.0.0.1:9/token",
    }
    file = folder / "key.json"
    file.write_text(json.dumps(key))
    return file


class _Proxy(socketserver.ThreadingTCPServer):
    """Leads whoever asks for Vertex AI's address to a port of this machine, and nobody anywhere else."""

    daemon_threads = True

    def __init__(self, fake: fake_vertex.FakeVertex, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.fake, self.port = fake, port


class _Tunnel(socketserver.StreamRequestHandler):
    server: _Proxy

    def handle(self) -> None:
        target = self.rfile.readline().split()[1].decode()
        while self.rfile.readline().strip():
            pass
        self.server.fake.hosts.append(target)
        if target != f"{_REGION_HOST}:443":
            self.wfile.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
            return
        self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with socket.create_connection(("127.0.0.1", self.server.port)) as behind:
            back = threading.Thread(target=_pass_on, args=(behind, self.connection), daemon=True)
            back.start()
            _pass_on(self.connection, behind)
            back.join()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    """All that comes from one side, until it ends; then the other is told that nothing more comes."""
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return  # the other side has gone
