"""What the clients send to Vertex AI; `make golden` writes it anew, for a person to look at."""

import functools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fake_storage
import fake_vertex
import golden_job
import google.auth
import pytest
import yaml
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform_v1

from components.vertex_push import experiment
from components.vertex_push.registry import Registry
from pipeline.config import PipelineConfig, load_config
from pipeline.runners import kubeflow, vertex, vertex_batch, vertex_registry, vertex_schedules

GOLDEN = Path(__file__).with_name("golden_requests.json")
KEY = "projects/my-project/locations/us-central1/keyRings/r/cryptoKeys/k"
OVERRIDES = (
    "vertex.network=projects/12/global/networks/private",
    f"vertex.kms_key={KEY}",
    "vertex.experiment=simclr-nightly",
    "vertex.failure_policy=fast",
)

# As much of a report's metrics.json as an experiment takes.
METRICS = {
    "rows": [{"arm": "finetune", "label_fraction": 0.1, "top1": 0.391, "top5": None}],
    "ingest": {"unlabeled": {"read": 1010, "kept": 1000}},
    "pushed": "gs://my-bucket/runs/pushed/1",
}


def config(*overrides: str) -> PipelineConfig:
    """The example that users start from, with these fields changed."""
    return load_config(str(golden_job.EXAMPLE), (*golden_job.OVERRIDES, *overrides))


@contextmanager
def vertex_ai(patch: pytest.MonkeyPatch) -> Iterator[fake_vertex.FakeVertex]:
    """The fake, with nobody's credentials, and with the golden job for what a compilation leaves."""
    patch.setattr(google.auth, "default", lambda *_, **__: (AnonymousCredentials(), "my-project"))
    compiled = kubeflow.Compiled(golden_job.GOLDEN, golden_job.GOLDEN_YAML)
    patch.setattr(kubeflow, "compile_pipeline", lambda *_, **__: compiled)
    with fake_vertex.serving(patch) as fake:
        yield fake


def pushed_version(number: str) -> aiplatform_v1.Model:
    """What VertexPusher asks the registry to take, but for what comes from a run's artifacts."""
    return aiplatform_v1.Model(
        display_name="simclr",
        artifact_uri=f"gs://my-bucket/runs/pushed/{number}",
        container_spec=aiplatform_v1.ModelContainerSpec(image_uri=config().vertex.registry.serving_image),
        labels={"run": f"simclr-{number}"},
    )


def sent() -> list[dict[str, Any]]:
    """The requests of a submission, a schedule's life, two versions and the embeddings of one."""
    with pytest.MonkeyPatch.context() as patch, vertex_ai(patch) as fake, fake_storage.serving(patch) as storage:
        vertex.submit(config(*OVERRIDES), "unused", run_key="2026-03-02")
        vertex_schedules.schedule(config(), "0 3 * * 1", "unused", timezone="Europe/Berlin")
        vertex_schedules.schedule(config(), "30 4 * * *", "unused")
        vertex_schedules.unschedule(config())
        experiment.log_metrics(config(*OVERRIDES).vertex.target, METRICS, commit="0123abcd", run="simclr-1")
        for number in "12":
            registry = Registry(config(*OVERRIDES).vertex.target)
            registry.upload(pushed_version(number), fingerprint=number * 64)
            vertex_registry.promote(config().vertex, "candidate")
        vertex_registry.roll_back(config(*OVERRIDES, "vertex.registry.endpoint=photos").vertex)
        storage.put("gs://my-bucket/photos/1.jpg", "gs://my-bucket/photos/2.png")
        vertex_batch.embed(config(*OVERRIDES).vertex, "gs://my-bucket/photos", "gs://my-bucket/embeddings")
        return [{"method": method, "request": short(fake_vertex.as_json(request))} for method, request in fake.calls]


def short(request: Any) -> Any:
    """The request, with the golden job's pipeline standing by its name, in either form."""
    if not isinstance(request, dict):
        return request
    return {name: _pipeline_name(value) or short(value) for name, value in request.items()}


def _pipeline_name(value: Any) -> str | None:
    named = ((path, pipeline) for path, pipeline in _pipelines() if value == pipeline)
    return next((f"<of {path.name}>" for path, _ in named), None)


@functools.cache
def _pipelines() -> tuple[tuple[Path, dict[str, Any]], ...]:
    job = json.loads(golden_job.GOLDEN.read_text())
    pipeline = yaml.load(golden_job.GOLDEN_YAML.read_text(), yaml.CSafeLoader)
    return (golden_job.GOLDEN, job["pipelineSpec"]), (golden_job.GOLDEN_YAML, pipeline)


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(sent(), indent=1, sort_keys=True) + "\n")
