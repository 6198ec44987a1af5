"""Google Cloud Storage on loopback, and processes in which gs:// is that and nothing else can be reached."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gcs_proxy
import pytest
import requests
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
# Where the programs find what other tests have: a training that dies, models to push.
_SHARED = ("gcs", "trainer", "components/push", "components/span_ingest")
_TIMEOUT_S = 600
# Of nobody: the proxy answers for it with a token.
_CREDENTIALS = {"type": "authorized_user", "client_id": "-", "client_secret": "-", "refresh_token": "-"}


@dataclass(frozen=True)
class ObjectStore:
    """The emulator, and what a process must be given for its gs:// to be there.

    Attributes:
        client: Google's, on the emulator itself and not through the proxy.
        environment: of processes.
        refused: file of the hosts that were asked for beside Google's own.
    """

    client: storage.Client
    environment: dict[str, str]
    refused: Path

    def names(self, bucket: str, prefix: str = "") -> list[str]:
        """Lists objects."""
        return sorted(blob.name for blob in self.client.list_blobs(bucket, prefix=prefix))

    def read(self, bucket: str, name: str) -> bytes:
        """Reads an object."""
        return self.client.bucket(bucket).blob(name).download_as_bytes()

    def run(self, root: str, *names: str, timeout_s: int = _TIMEOUT_S) -> dict[str, Any]:
        """Calls functions that `gcs_programs` knows in one process, which asks only Google for anything.

        Returns:
            What they return, by their names.
        """
        done = subprocess.run(
            [sys.executable, str(_HERE / "gcs_programs.py"), root, *names],
            env=self.environment,
            cwd=_ROOT,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert self.refused.read_text() == ""
        return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """One emulator for all tests; each makes a bucket of its own."""
    directory = tmp_path_factory.mktemp("object_store")
    with gcs_proxy.running(directory) as (_, urls):
        session = requests.Session()
        session.trust_env = False  # else it takes the proxy of the machine
        client = storage.Client(
            project="nobody",
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": urls["emulator"]},
            _http=session,
        )
        environment = _environment(urls["proxy"], directory)
        yield ObjectStore(client, environment, refused=directory / gcs_proxy.REFUSED_FILE)


def _environment(proxy: str, directory: Path) -> dict[str, str]:
    credentials = directory / "credentials.json"
    credentials.write_text(json.dumps(_CREDENTIALS))
    authority = str(directory / gcs_proxy.AUTHORITY_FILE)
    return {
        **gcs_proxy.unproxied_environment(),
        "PYTHONPATH": os.pathsep.join([str(_ROOT), *(str(_HERE.parent / folder) for folder in _SHARED)]),
        # Each client reads one or the other of the two spellings.
        **dict.fromkeys(("HTTPS_PROXY", "https_proxy"), proxy),
        **dict.fromkeys(("NO_PROXY", "no_proxy"), "localhost,127.0.0.1,::1"),
        # TensorFlow's and Python's clients.
        "CURL_CA_BUNDLE": authority,
        "REQUESTS_CA_BUNDLE": authority,
        "GOOGLE_APPLICATION_CREDENTIALS": str(credentials),
        "NO_GCE_CHECK": "true",
        # TensorFlow fills with zeros as much memory as this for each file that it opens: 64 MB else.
        "GCS_READ_CACHE_BLOCK_SIZE_MB": "1",
    }
