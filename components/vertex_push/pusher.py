"""From a pushed model and its report to a version in the registry."""

import dataclasses
import json
import posixpath
from collections.abc import Mapping
from typing import Any

from google.cloud.aiplatform_v1 import Model, ModelContainerSpec
from tfx.dsl.io import fileio

from components import google_calls
from components.push.component import DECISION_FILE
from components.push.fingerprint import recorded_fingerprint
from components.report.executor import CARD_FILES, METRICS_FILE
from components.vertex_push import description
from components.vertex_push.endpoint import Endpoint
from components.vertex_push.experiment import log_metrics
from components.vertex_push.registry import CANDIDATE, CHAMPION, PREVIOUS, Registry
from components.vertex_push.settings import Target

# Beside the fingerprint, where model servers expect what isn't theirs.
_EXTRA_FILES = "assets.extra"


@dataclasses.dataclass(frozen=True)
class Registration:
    """What became of a pushed model; `registration.json` holds these fields.

    Attributes:
        reason: in words.
        version: its name in the registry, projects/P/locations/L/models/M@V; None if it was not registered.
        is_new: whether this run has uploaded it.
    """

    reason: str
    version: str | None = None
    is_new: bool = False

    def as_json(self) -> dict[str, Any]:
        """The fields."""
        return dataclasses.asdict(self)


def register(target: Target, *, pushed_model: str, report: str, run: str, commit: str) -> Registration:
    """Registers what Push has pushed; what it kept back is not uploaded, but its figures are in the experiment.

    Args:
        target: where.
        pushed_model: directory with decision.json.
        report: directory with metrics.json and the model card.
        run: name of the pipeline's job.
        commit: of the code.

    Raises:
        ServiceError: Vertex AI refuses, or does not answer.
    """
    metrics = _read_json(f"{report}/{METRICS_FILE}")
    if target.experiment is not None:
        with google_calls.explained("log metrics", project=target.project, service_account=target.service_account):
            log_metrics(target, metrics, commit=commit, run=run)
    decision = _read_json(f"{pushed_model}/{DECISION_FILE}")
    if target.registry.model is None:
        return Registration("Not registered: vertex.registry.model is null.")
    if decision["pushed"] is None:
        return Registration(f"Not registered: {decision['reason']}")
    path = decision["pushed"]
    model = Model(
        display_name=target.registry.model,
        artifact_uri=path,
        container_spec=ModelContainerSpec(image_uri=target.registry.serving_image),
        labels=target.labels | description.labels(metrics, commit=commit, run=run),
        version_description=description.description(
            metrics, commit=commit, run=run, reason=decision["reason"], card=_attach_card(report, path)
        ),
    )
    with google_calls.explained("register", project=target.project, service_account=target.service_account):
        registry = Registry(target)
        version, is_new = registry.upload(model, fingerprint=recorded_fingerprint(path))
        served = _try_out(target, registry.aliases(), version.version_id)
    done = "Registered" if is_new else "Already registered"
    return Registration(
        f"{done} as version {version.version_id} of {target.registry.model}.{served}",
        version=f"{target.model_name}@{version.version_id}",
        is_new=is_new,
    )


def _try_out(target: Target, aliases: Mapping[str, str], version: str) -> str:
    """Deploys the candidate where there is an endpoint; says so."""
    champion = aliases.get(CHAMPION)
    if target.registry.endpoint is None or aliases.get(CANDIDATE) != version or champion == version:
        return ""
    share = Endpoint(target).try_out(version, champion=champion, previous=aliases.get(PREVIOUS))
    return f" It gets {share}% of the traffic of {target.registry.endpoint}."


def _attach_card(report: str, version: str) -> str:
    """Puts the model card among the files of the pushed version, which Vertex AI copies; returns where its page is.

    A card that is there is the one of the run that the version was registered from, and stays.
    """
    for name in CARD_FILES:
        attached = posixpath.join(version, _EXTRA_FILES, name)
        if not fileio.exists(attached):
            fileio.copy(posixpath.join(report, name), attached)
    return attached


def _read_json(path: str) -> Any:
    with fileio.open(path, "r") as file:
        return json.load(file)
