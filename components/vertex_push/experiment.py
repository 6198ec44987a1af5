"""A run's accuracies in Vertex AI Experiments, where runs are compared side by side."""

import contextlib
from collections.abc import Mapping
from typing import Any

from google.api_core import exceptions
from google.api_core.client_options import ClientOptions
from google.cloud import aiplatform, aiplatform_v1

from components.google_calls import CALL, RETRY
from components.vertex_push.settings import Target

# How Vertex AI's SDK stores an experiment run; the page of the experiment reads these.
_SCHEMA = {"schema_title": "system.ExperimentRun", "schema_version": "0.0.1"}


def log_metrics(target: Target, metrics: Mapping[str, Any], *, commit: str, run: str) -> None:
    """Enters a run with its accuracies into the experiment; once, also when it is told again.

    The run's own entry has no figures: Vertex AI takes them from `system.Metrics`, which TFX does not write. It is
    made here too, since of a run that a schedule or the service began nobody else makes it. The SDK's ExperimentRun
    is not used: it keeps its run in globals, and repeats nothing.

    Args:
        target: with `experiment`.
        metrics: the report's metrics.json.
        commit: of the code.
        run: name of the pipeline's job.
    """
    experiment = RETRY(aiplatform.Experiment.get_or_create)(
        target.experiment, project=target.project, location=target.region
    )
    client = aiplatform_v1.MetadataServiceClient(client_options=ClientOptions(api_endpoint=target.host))
    store = f"{target.place}/metadataStores/default"
    context_id = f"{target.experiment}-{run}-metrics"
    context = aiplatform_v1.Context(
        display_name=f"{run}-metrics",
        metadata={"_params": _parameters(metrics, commit), "_metrics": _accuracies(metrics), "_state": "COMPLETE"},
        **_SCHEMA,
    )
    # An attempt without an answer, or of the node, has made it.
    with contextlib.suppress(exceptions.AlreadyExists):
        client.create_context(parent=store, context=context, context_id=context_id, **CALL)
    children = [f"{store}/contexts/{context_id}", *_own_context(client, f"{store}/contexts/{run}")]
    # Those that are entered already are passed over.
    client.add_context_children(context=experiment.resource_name, child_contexts=children, **CALL)


def _own_context(client: aiplatform_v1.MetadataServiceClient, name: str) -> list[str]:
    """What Vertex AI keeps of the run itself, under the run's name; nothing where it keeps nothing."""
    try:
        client.get_context(name=name, **CALL)
    except exceptions.NotFound:
        return []
    return [name]


def _parameters(metrics: Mapping[str, Any], commit: str) -> dict[str, Any]:
    images = {f"images_{source}": float(counts["kept"]) for source, counts in metrics["ingest"].items()}
    return {"commit": commit, "pushed": str(metrics["pushed"] is not None).lower()} | images


def _accuracies(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Top-1 and top-5 by arm and fraction of the labels, such as finetune_0.1_top1."""
    return {
        f"{row['arm']}_{row['label_fraction']:g}_{name}": row[name]
        for row in metrics["rows"]
        for name in ("top1", "top5")
        if row[name] is not None
    }
