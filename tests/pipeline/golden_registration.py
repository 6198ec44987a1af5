"""What VertexPusher asks Vertex AI for when the first answer to its upload is lost; `make golden` writes it anew."""

import json
import tempfile
from pathlib import Path
from typing import Any

import fake_vertex
import golden_requests
import grpc
import pytest
from pushed_runs import register_run

from components.google_calls import ServiceError

GOLDEN = Path(__file__).with_name("golden_registration.json")
OVERRIDES = ("vertex.experiment=nightly", "vertex.registry.endpoint=photos")
RUN = "run-0123"


def lose_the_answer(fake: fake_vertex.FakeVertex) -> None:
    """The upload is done, and its answer is an error that no client tries again: the node fails after it."""
    fake.refuse("UploadModel", grpc.StatusCode.INTERNAL, "the answer was lost", after=True)


def requests_of(fake: fake_vertex.FakeVertex, folder: str, run: str) -> list[dict[str, Any]]:
    """All that was asked for, with the names of a folder and a run taken out."""
    calls = [{"method": method, "request": fake_vertex.as_json(request)} for method, request in fake.calls]
    return json.loads(json.dumps(calls).replace(folder, "<folder>").replace(run, "<run>"))


def sent() -> list[dict[str, Any]]:
    """The requests of two attempts in this process, of which the first fails after its upload."""
    with pytest.MonkeyPatch.context() as patch, golden_requests.vertex_ai(patch) as fake:
        lose_the_answer(fake)
        with tempfile.TemporaryDirectory() as folder:
            with pytest.raises(ServiceError, match="the answer was lost"):
                register_run(Path(folder), overrides=OVERRIDES, job=RUN)
            register_run(Path(folder), overrides=OVERRIDES, job=RUN)
            return requests_of(fake, folder, RUN)


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(sent(), indent=1, sort_keys=True) + "\n")
