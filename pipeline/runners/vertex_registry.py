"""Promotion and rollback of the versions in the Model Registry."""

from components.vertex_push.endpoint import Endpoint
from components.vertex_push.registry import Change, Registry
from components.vertex_push.settings import Target
from pipeline.cloud import VertexConfig
from pipeline.runners.vertex_calls import explained
from trainer.config import ConfigError


def promote(vertex: VertexConfig, version: str) -> Change:
    """Makes a version the champion, and gives it all traffic of the endpoint, if there is one.

    Args:
        vertex: with `project` and `registry.model`.
        version: its number, or an alias such as `candidate`.

    Raises:
        ConfigError: the configuration names no model.
        ServiceError: there is no such version, or Vertex AI refuses or does not answer.
    """
    with explained(vertex, "promote"):
        target = target_of(vertex)
        return _served(target, Registry(target).promote(version))


def roll_back(vertex: VertexConfig) -> Change:
    """Makes the champion before this one the champion again, with all traffic of the endpoint, if there is one.

    Args:
        vertex: with `project` and `registry.model`.

    Raises:
        ConfigError: the configuration names no model.
        ServiceError: there is none before, or Vertex AI refuses or does not answer.
    """
    with explained(vertex, "roll back"):
        target = target_of(vertex)
        return _served(target, Registry(target).roll_back())


def target_of(vertex: VertexConfig) -> Target:
    """The registry as its calls take it.

    Args:
        vertex: with `project` and `registry.model`.

    Raises:
        ConfigError: one of these is missing.
    """
    if vertex.project is None or vertex.registry.model is None:
        missing = "vertex.project" if vertex.project is None else "vertex.registry.model"
        raise ConfigError(f"{missing} = null: must be given; see infra/vertex.example.yaml")
    return vertex.target


def _served(target: Target, change: Change) -> Change:
    """Lets the endpoint, if there is one, follow; also after no change, which an attempt may have ended before."""
    if target.registry.endpoint is not None:
        Endpoint(target).serve(change.champion, previous=change.previous)
    return change
