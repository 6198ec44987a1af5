"""What the trigger's service lives in, on loopback: an issuer of tokens, Vertex AI, Cloud Storage, its callers."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import fake_vertex_rest
import jwt
import loopback
from cryptography.hazmat.primitives.asymmetric import rsa
from fake_storage import FakeStorage
from fake_vertex import FakeVertex

from infra.trigger.app import Addresses
from pipeline.runners import job_template

INVOKER = "simclr-invoker@my-project.iam.gserviceaccount.com"
AUDIENCE = "https://simclr-trigger-a1b2c3d4e5-uc.a.run.app"
TEMPLATE = "gs://my-bucket/runs/deployed/job.json"
BUCKET = "my-project-images"
ENVIRONMENT = {
    "PROJECT": "my-project",
    "PROJECT_NUMBER": "123456789012",
    "REGION": "us-central1",
    "PIPELINE_ROOT": "gs://my-bucket/runs",
    "SERVICE_ACCOUNT": "simclr-pipeline@my-project.iam.gserviceaccount.com",
    "IMAGES_BUCKET": BUCKET,
    "MARKER": "_SUCCESS",
    "INVOKER": INVOKER,
    "REMOVED_SIGNATURES": "refuse",
    "K_SERVICE": "simclr-trigger",
}
# By its path: what compiles it takes seconds to import.
GOLDEN = Path(__file__).parents[2] / "pipeline" / "golden_job.json"
# The request of a compiled pipeline, without the pipeline.
JOB = json.loads(GOLDEN.read_text()) | {
    "pipelineSpec": {"pipelineInfo": {"name": "simclr"}, "root": {"dag": {}}, "schemaVersion": "2.1.0"}
}


@cache
def key(name: str) -> rsa.RSAPrivateKey:
    """A private key, the same for a name in this process."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def token(*, signed_with: str = "google", key_id: str | None = "google", **claims: Any) -> str:
    """A token as Google gives it to Eventarc, with these claims changed, and those that are None left out."""
    now = int(time.time())
    usual = {
        "iss": "https://accounts.google.com",
        "aud": AUDIENCE,
        "sub": "1",
        "email": INVOKER,
        "email_verified": True,
        "iat": now,
        "exp": now + 3600,
    }
    content = {name: value for name, value in (usual | claims).items() if value is not None}
    return jwt.encode(content, key(signed_with), algorithm="RS256", headers={"kid": key_id} if key_id else {})


def removed(whole: str) -> str:
    """What Cloud Run makes of a token that it has checked."""
    return f"{whole.rpartition('.')[0]}.SIGNATURE_REMOVED_BY_GOOGLE"


def finalized(name: str = "photos/_SUCCESS", *, bucket: str = BUCKET, generation: Any = "7", **data: Any) -> dict:
    """What Eventarc says of a new object, as far as it is looked at, and a little more."""
    told = {"bucket": bucket, "name": name, "generation": generation, "size": "0", "metageneration": "1"}
    return told | data


def binary(data: Any, **attributes: str) -> dict[str, Any]:
    """Headers and body of an event in binary mode, as arguments of a request."""
    bucket = data.get("bucket", "") if isinstance(data, dict) else ""
    usual = {
        "specversion": "1.0",
        "id": "1234",
        "source": f"//storage.googleapis.com/projects/_/buckets/{bucket}",
        "type": "google.cloud.storage.object.v1.finalized",
        "subject": "objects/_SUCCESS",
        "time": "2026-03-02T01:30:00.123Z",
    }
    headers = {f"ce-{name}": value for name, value in (usual | attributes).items()}
    return {"headers": headers | {"Content-Type": "application/json"}, "data": json.dumps(data).encode()}


def structured(data: Any, **attributes: Any) -> dict[str, Any]:
    """The same event in structured mode."""
    headers = binary(data, **attributes)["headers"]
    content = {name.removeprefix("ce-"): value for name, value in headers.items() if name.startswith("ce-")}
    return {
        "headers": {"Content-Type": "application/cloudevents+json; charset=UTF-8"},
        "data": json.dumps(content | {"datacontenttype": "application/json", "data": data}).encode(),
    }


@dataclass
class World:
    """Everything around the service.

    Attributes:
        vertex, storage: see the fakes.
        addresses: of all of it.
        key_requests: how often the issuer's keys were asked for.
        keys_answer: what it says instead of its keys: a status, and a body.
    """

    vertex: FakeVertex
    storage: FakeStorage
    addresses: Addresses = field(default_factory=Addresses)
    key_requests: int = 0
    keys_answer: tuple[int, bytes] | None = None

    def deploy(self, job: dict[str, Any] = JOB) -> str:
        """Puts a template in its place; returns its digest."""
        template = job_template.make(job)
        self.storage.put(TEMPLATE, content=job_template.dump(template))
        return template.digest

    def keys(self) -> tuple[int, bytes]:
        self.key_requests += 1
        if self.keys_answer:
            return self.keys_answer
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key("google").public_key()))
        return 200, json.dumps({"keys": [public | {"kid": "google", "use": "sig", "alg": "RS256"}]}).encode()


@contextmanager
def serving(storage: FakeStorage, storage_address: str) -> Iterator[World]:
    """The world, with the job of the tests deployed."""
    world = World(FakeVertex(), storage)

    with (
        loopback.serving(lambda _: world.keys()) as issuer,
        fake_vertex_rest.serving(world.vertex) as vertex,
    ):
        world.addresses = Addresses(certificates=f"{issuer}/certs", storage=storage_address, vertex=vertex)
        world.deploy()
        yield world
