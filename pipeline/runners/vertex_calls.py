"""Calls of Vertex AI for a configuration; how they are tried again is shared with the nodes that call it."""

from contextlib import AbstractContextManager

from components import google_calls
from components.google_calls import BEGIN, CALL, LOGIN, RETRY, ServiceError, outcome, passes
from pipeline.cloud import VertexConfig

__all__ = ["BEGIN", "CALL", "CONSOLE", "LOGIN", "RETRY", "ServiceError", "explained", "outcome", "passes"]

CONSOLE = "https://console.cloud.google.com/vertex-ai/locations"


def explained(vertex: VertexConfig, doing: str) -> AbstractContextManager[None]:
    """Turns Google's errors into a ServiceError.

    Args:
        vertex: whose project and service account the words name.
        doing: what was being done, the beginning of the message.
    """
    return google_calls.explained(doing, project=vertex.project, service_account=vertex.service_account)
