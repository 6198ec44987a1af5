"""What the commands ask of services that speak HTTP; `make golden` writes it anew, for a person to look at.

Vertex AI's own requests are in `golden_requests.py`.
"""

import json
from pathlib import Path
from typing import Any

import fake_google
import fake_kubeflow
import fake_storage
import golden_requests
import loopback
import pytest

from components.vertex_push.registry import Registry
from pipeline.runners import kubeflow_run, vertex_batch, vertex_deploy, vertex_preflight

GOLDEN = Path(__file__).with_name("golden_http.json")
SETTINGS = (
    *golden_requests.OVERRIDES,
    "beam.dataflow.subnetwork=regions/us-central1/subnetworks/s",
    "retrain.store=gs://my-store/fleet",
)


def sent() -> dict[str, list[dict[str, Any]]]:
    """The calls of preflight, a deployment, a batch of embeddings and a run on Kubeflow, in their order."""
    return {"preflight": _preflight(), "deploy": _deploy(), "embeddings": _embeddings(), "kubeflow": _kubeflow()}


def _preflight() -> list[dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch, golden_requests.vertex_ai(patch), fake_google.serving() as google:
        vertex_preflight.inspect(golden_requests.config(*SETTINGS), endpoints=google.endpoints)
        return [call.as_json() for call in google.calls]


def _deploy() -> list[dict[str, Any]]:
    with (
        pytest.MonkeyPatch.context() as patch,
        golden_requests.vertex_ai(patch),
        fake_storage.serving(patch) as storage,
    ):
        vertex_deploy.deploy(golden_requests.config(*golden_requests.OVERRIDES), "unused")
        return [_of_storage(call) for call in storage.calls]


def _embeddings() -> list[dict[str, Any]]:
    settings = golden_requests.config(*golden_requests.OVERRIDES).vertex
    with (
        pytest.MonkeyPatch.context() as patch,
        golden_requests.vertex_ai(patch),
        fake_storage.serving(patch) as storage,
    ):
        Registry(settings.target).upload(golden_requests.pushed_version("1"), fingerprint="1" * 64)
        storage.put(*(f"gs://my-bucket/photos/{number}.jpg" for number in range(3)))
        vertex_batch.embed(settings, "gs://my-bucket/photos", "gs://my-bucket/embeddings", version="1")
        return [_of_storage(call) for call in storage.calls]


def _kubeflow() -> list[dict[str, Any]]:
    with (
        pytest.MonkeyPatch.context() as patch,
        golden_requests.vertex_ai(patch),
        fake_kubeflow.serving(patch) as server,
    ):
        kubeflow_run.submit(golden_requests.config(*golden_requests.OVERRIDES), "unused", host=server.url)
        return [golden_requests.short(call.as_json()) for call in server.calls]


def _of_storage(call: loopback.Call) -> dict[str, Any]:
    if call.method != "POST":
        return call.as_json()
    upload = fake_storage.Upload.read(call)
    is_json = upload.content_type == "application/json"
    content = golden_requests.short(json.loads(upload.content)) if is_json else upload.content.decode()
    return call._replace(body=b"").as_json() | {**upload._asdict(), "content": content}


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(sent(), indent=1, sort_keys=True) + "\n")
