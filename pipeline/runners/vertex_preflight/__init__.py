"""A look at a configuration for Vertex AI before anything is sent: what would fail, what is needed, what it costs."""

import dataclasses

import google.auth
from google.auth.exceptions import GoogleAuthError

from pipeline.config import PipelineConfig
from pipeline.runners.vertex_calls import LOGIN
from pipeline.runners.vertex_preflight import catalog, offline, online
from pipeline.runners.vertex_preflight.findings import Finding, not_checked
from pipeline.runners.vertex_preflight.rest import Endpoints, Rest

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_CLOUD = "Google Cloud"


def inspect(config: PipelineConfig, *, ask: bool = True, endpoints: Endpoints | None = None) -> list[Finding]:
    """All findings: those of the configuration alone, and those of Google Cloud where it can be asked.

    Args:
        config: of the run.
        ask: False: no credentials are looked for, and nothing is sent.
        endpoints: of Google's services; None: the real ones.
    """
    table = catalog.read()
    found = [dataclasses.replace(finding, of_configuration=True) for finding in offline.check(config, table)]
    if not ask:
        return [*found, *offline.unasked(config), not_checked(_CLOUD, "not asked, as was wanted")]
    if config.vertex.project is None:
        return [*found, *offline.unasked(config), not_checked(_CLOUD, "there is no project to ask about")]
    try:
        # It is only here that credentials are looked for.
        credentials, _ = google.auth.default(scopes=[_SCOPE])
        return found + online.check(config, table, Rest(credentials, endpoints or Endpoints()))
    except GoogleAuthError as problem:
        return [*found, *offline.unasked(config), not_checked(_CLOUD, f"{LOGIN} ({problem})")]
