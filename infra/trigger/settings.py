"""What the service is told by its environment; infra/terraform/modules/trigger sets each of these names."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_ACCOUNT = (r"[^@\s]+@[^@\s]+", "an e-mail of a service account")
_BUCKET = r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"
# What each may be, as a pattern and in words.
_RULES = {
    "PROJECT": (r"[a-z][a-z0-9-]{4,28}[a-z0-9]", "a project id"),
    "PROJECT_NUMBER": (r"\d{1,20}", "a project's number"),
    "REGION": (r"[a-z]+-[a-z]+\d+", "a region such as us-central1"),
    "PIPELINE_ROOT": (rf"gs://{_BUCKET}(/.*)?", "a gs:// folder"),
    "SERVICE_ACCOUNT": _ACCOUNT,
    "IMAGES_BUCKET": (_BUCKET, "the name of a bucket"),
    "MARKER": (r"[^/\x00-\x1f\x7f]{1,200}", "a name of an object without folders"),
    "INVOKER": _ACCOUNT,
    "REMOVED_SIGNATURES": ("accept|refuse", "accept, or refuse"),
    # By Cloud Run itself.
    "K_SERVICE": (r"[a-z]([a-z0-9-]{0,47}[a-z0-9])?", "the name of the service, which Cloud Run gives"),
}


class SettingsError(ValueError):
    """A variable is missing, or is not what it may be."""


@dataclass(frozen=True)
class Settings:
    """Who calls, what starts a run, and what is started where.

    Attributes:
        project, region: where runs are started.
        pipeline_root: folder of runs, in which the deployed template lies.
        service_account: the only account that runs are started as.
        bucket: whose objects are heard of.
        marker: name of the object that says that an upload is whole.
        invoker: the only account that may call.
        accepts_removed_signatures: whether a token counts whose signature Cloud Run has checked and taken away.
        audience: pattern of what a token may be meant for: one of the service's own addresses.
    """

    project: str
    region: str
    pipeline_root: str
    service_account: str
    bucket: str
    marker: str
    invoker: str
    accepts_removed_signatures: bool
    audience: re.Pattern[str]


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Reads all of it at once, so that a service that is told too little never starts.

    Raises:
        SettingsError: names the variable, its rule and what was found.
    """
    given = {name: _read(environment, name) for name in _RULES}
    return Settings(
        project=given["PROJECT"],
        region=given["REGION"],
        pipeline_root=given["PIPELINE_ROOT"].rstrip("/"),
        service_account=given["SERVICE_ACCOUNT"],
        bucket=given["IMAGES_BUCKET"],
        marker=given["MARKER"],
        invoker=given["INVOKER"],
        accepts_removed_signatures=given["REMOVED_SIGNATURES"] == "accept",
        audience=_audience(given["K_SERVICE"], given["PROJECT_NUMBER"], given["REGION"]),
    )


def _read(environment: Mapping[str, str], name: str) -> str:
    pattern, words = _RULES[name]
    value = environment.get(name)
    if value is None or not re.fullmatch(pattern, value):
        raise SettingsError(f"{name} = {value!r}: must be {words}")
    return value


def _audience(service: str, project_number: str, region: str) -> re.Pattern[str]:
    """The addresses that Cloud Run gives to a service: by the project's number, and the older one by a hash.

    No service can be told its own address before it is made, so they are known by their form. Who calls may have
    added the path and the query that it calls.
    """
    by_number = rf"{project_number}\.{region}\.run\.app"
    return re.compile(rf"https://{service}-({by_number}|[a-z0-9]+-[a-z]+\.a\.run\.app)([/?]\S*)?")
