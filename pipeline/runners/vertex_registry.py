"""Promotion and rollback of the versions in the Model Registry."""

from components.vertex_push.registry import Change, Registry
from pipeline.cloud import VertexConfig
from pipeline.runners.vertex_calls import explained
from trainer.config import ConfigError


def promote(vertex: VertexConfig, version: str) -> Change:
    """Makes a version the champion.

    Args:
        vertex: with `project` and `registry.model`.
        version: its number, or an alias such as `candidate`.

    Raises:
        ConfigError: the configuration names no model.
        ServiceError: there is no such version, or Vertex AI refuses or does not answer.
    """
    with explained(vertex, "promote"):
        return _registry(vertex).promote(version)


def roll_back(vertex: VertexConfig) -> Change:
    """Makes the champion before this one the champion again.

    Args:
        vertex: with `project` and `registry.model`.

    Raises:
        ConfigError: the configuration names no model.
        ServiceError: there is none before, or Vertex AI refuses or does not answer.
    """
    with explained(vertex, "roll back"):
        return _registry(vertex).roll_back()


def _registry(vertex: VertexConfig) -> Registry:
    if vertex.project is None or vertex.target is None:
        missing = "vertex.project" if vertex.project is None else "vertex.registry.model"
        raise ConfigError(f"{missing} = null: must be given; see infra/vertex.example.yaml")
    return Registry(vertex.target)
