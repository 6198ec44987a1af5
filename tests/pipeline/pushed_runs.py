"""A run that has pushed a model, as far as VertexPusher sees it, and the registration of that model."""

import json
from pathlib import Path

import golden_requests

from components.push.fingerprint import FINGERPRINT_FILE
from components.vertex_push.pusher import Registration, register
from components.vertex_push.settings import Target

COMMIT = "0123abcd"
PLACE = "projects/my-project/locations/us-central1"
MODEL = f"{PLACE}/models/simclr"
METRICS = {
    "rows": [
        {"arm": "finetune", "label_fraction": 0.1, "n_labels": 200, "top1": 0.391, "top5": 0.88, "n_test": 500},
        {"arm": "finetune", "label_fraction": 0.01, "n_labels": 20, "top1": 0.2, "top5": 0.7, "n_test": 500},
        {"arm": "supervised", "label_fraction": 1.0, "n_labels": 2000, "top1": 0.3, "top5": 0.7, "n_test": 500},
    ],
    "pushed": None,
    "ingest": {"unlabeled": {"read": 1010, "kept": 1000, "duplicate": 7, "rejected": 3}},
}


def leave_run(folder: Path, content: str = "a", *, pushed: bool = True, job: str = "simclr-1") -> None:
    """Leaves in a folder what Push and Report have made of a model of this content: `push`, `report`, the version."""
    version = folder / content
    (version / "assets.extra").mkdir(parents=True, exist_ok=True)
    (version / FINGERPRINT_FILE).write_text(content * 64)
    decision = {
        "pushed": str(version) if pushed else None,
        "reason": "Worse." if not pushed else "Good.",
    }
    for directory, name, value in (("push", "decision.json", decision), ("report", "metrics.json", METRICS)):
        (folder / directory).mkdir(exist_ok=True)
        (folder / directory / name).write_text(json.dumps(value))
    for name in ("model_card.md", "model_card.html"):
        (folder / "report" / name).write_text(f"card of {job}")


def target(*overrides: str) -> Target:
    """Where the model is registered."""
    return golden_requests.config("vertex.registry.model=simclr", *overrides).vertex.target


def register_run(
    folder: Path, content: str = "a", *, pushed: bool = True, overrides=(), job: str = "simclr-1", commit=COMMIT
) -> Registration:
    """Registers a model of this content, as a node would whose run has these artifacts in the folder."""
    leave_run(folder, content, pushed=pushed, job=job)
    return register(
        target(*overrides), pushed_model=str(folder / "push"), report=str(folder / "report"), run=job, commit=commit
    )


def aliases(fake) -> dict[str, set[str]]:
    """Of each version that the registry has of the model."""
    return {version.version_id: set(version.version_aliases) for version in fake.versions[MODEL]}
