"""Checks that ask Google, as the person who will submit: project, permissions, roles, quotas, and `resources`."""

import functools
from collections.abc import Iterator

from google.api_core import exceptions

from pipeline.config import PipelineConfig
from pipeline.runners.vertex_preflight import needs, offline, resources, roles
from pipeline.runners.vertex_preflight.catalog import Catalog
from pipeline.runners.vertex_preflight.findings import Finding, error, has_errors, not_checked, note, ok, warning
from pipeline.runners.vertex_preflight.rest import Rest, is_off, looked, not_granted, part

_TO_SUBMIT = ("aiplatform.pipelineJobs.create", "aiplatform.pipelineJobs.get")
_TO_ACT_AS = "iam.serviceAccounts.actAs"
_UNLIMITED = -1


def check(config: PipelineConfig, table: Catalog, rest: Rest) -> list[Finding]:
    """All that Google tells; what may not be asked is said to be not checked. A project that is not there ends it.

    Raises:
        GoogleAuthError: the credentials do not hold.
    """
    found = looked("vertex.project", lambda: project(config, rest))
    if has_errors(found):
        return found
    checks = [("APIs", services), ("your permissions", permissions), ("roles", accounts)]
    checks += [("buckets", resources.buckets), ("images", resources.images), ("machines", resources.machines)]
    checks += [("network", resources.network), ("vertex.kms_key", resources.key)]
    for subject, look in checks:
        found += looked(subject, functools.partial(look, config, rest))
    for quota in needs.quotas(config, table):
        found += looked("quota", functools.partial(limit, quota, config, rest))
    return found


def project(config: PipelineConfig, rest: Rest) -> Iterator[Finding]:
    """It exists, and is not being deleted."""
    name = config.vertex.project
    try:
        answer = rest.get(f"{rest.endpoints.resource_manager}/v3/projects/{name}")
    except (exceptions.NotFound, exceptions.Forbidden) as problem:
        if is_off(problem):
            raise
        yield error("vertex.project", f"{name}: does not exist, or you may not see it; `gcloud projects list`")
        return
    state = answer.get("state")
    if state == "ACTIVE":
        yield ok("vertex.project", f"{name}: exists")
    else:
        yield error("vertex.project", f"{name}: its state is {state}; take a project that is ACTIVE")


def services(config: PipelineConfig, rest: Rest) -> Iterator[Finding]:
    """The APIs that the run calls are on."""
    wanted = [needs.VERTEX, "storage.googleapis.com", "artifactregistry.googleapis.com"]
    wanted += ["dataflow.googleapis.com", needs.COMPUTE] if config.beam.runner == "dataflow" else []
    wanted += ["cloudkms.googleapis.com"] if config.vertex.kms_key else []
    parent = f"projects/{config.vertex.project}"
    answer = rest.get(
        f"{rest.endpoints.service_usage}/v1/{parent}/services:batchGet",
        names=[f"{parent}/services/{name}" for name in wanted],
    )
    on = {item["name"].rpartition("/")[2] for item in answer.get("services", []) if item.get("state") == "ENABLED"}
    off = [name for name in wanted if name not in on]
    if off:
        command = f"gcloud services enable {' '.join(off)} --project {config.vertex.project}"
        yield error("APIs", f"off: {', '.join(off)}; {command}")
    else:
        yield ok("APIs", f"on: {', '.join(wanted)}")


def permissions(config: PipelineConfig, rest: Rest) -> Iterator[Finding]:
    """Who asks may start the run, and as its account."""
    vertex = config.vertex
    url = f"{rest.endpoints.resource_manager}/v3/projects/{vertex.project}:testIamPermissions"
    lacking = not_granted(rest.post(url, {"permissions": list(_TO_SUBMIT)}), _TO_SUBMIT)
    if lacking:
        command = (
            f"gcloud projects add-iam-policy-binding {vertex.project} --member user:YOU --role roles/aiplatform.user"
        )
        yield error("your permissions", f"you lack {', '.join(lacking)}: {command}")
    else:
        yield ok("your permissions", "you may start pipelines")
    if vertex.service_account is None:
        return
    account = vertex.service_account
    try:
        url = f"{rest.endpoints.iam}/v1/projects/-/serviceAccounts/{part(account)}:testIamPermissions"
        answer = rest.post(url, {"permissions": [_TO_ACT_AS]})
    except exceptions.NotFound:
        yield error("vertex.service_account", f"{account}: does not exist; infra/terraform makes one")
        return
    if not_granted(answer, (_TO_ACT_AS,)):
        yield error(
            "vertex.service_account",
            f"you may not run jobs as {account}: gcloud iam service-accounts add-iam-policy-binding {account} "
            f"--project {vertex.project} --member user:YOU --role roles/iam.serviceAccountUser",
        )
    else:
        yield ok("vertex.service_account", f"{account}: exists, and you may run jobs as it")


def accounts(config: PipelineConfig, rest: Rest) -> Iterator[Finding]:
    """Roles on the project; those of groups, folders and own roles are not seen, so a lack is only a warning."""
    url = f"{rest.endpoints.resource_manager}/v3/projects/{config.vertex.project}:getIamPolicy"
    try:
        bindings = rest.post(url, {}).get("bindings", [])
    except exceptions.Forbidden as problem:
        yield not_checked("roles", f"you may not look who has which, compare by hand: {problem.message}")
        yield from offline.accounts(config)
        return
    held = {(binding["role"], member) for binding in bindings for member in binding.get("members", [])}
    for grant in roles.grants(config):
        subject, member = f"roles of {grant.account}", f"serviceAccount:{grant.account}"
        if grant.place != "project":
            yield note(subject, f"{grant.role} on {grant.place}: {grant.why}")
        elif (grant.role, member) in held:
            yield ok(subject, f"has {grant.role} on the project")
        else:
            command = f"gcloud projects add-iam-policy-binding {config.vertex.project} --member {member}"
            yield warning(
                subject,
                f"has no {grant.role} on the project of its own ({grant.why}); unless a group or folder gives it: "
                f"{command} --role {grant.role}",
            )


def limit(quota: needs.Quota, config: PipelineConfig, rest: Rest) -> Iterator[Finding]:
    """The project's limit against what the run uses; what others use at the time is not known."""
    region, name = config.vertex.region, f"{quota.service}/{quota.metric}"
    parent = f"projects/{config.vertex.project}/services/{quota.service}"
    try:
        url = f"{rest.endpoints.service_usage}/v1beta1/{parent}/consumerQuotaMetrics/{part(name)}"
        limits = rest.get(url, view="FULL").get("consumerQuotaLimits", [])
    except exceptions.NotFound:
        yield not_checked("quota", f"{name}: no quota of this name; compare by hand")
        return
    allowed = _limit_in(limits, region)
    if allowed is None:
        yield not_checked("quota", f"{name}: has no limit for {region}; compare by hand")
    elif allowed == _UNLIMITED or allowed >= quota.peak:
        yield ok("quota", f"{name}: {quota.peak} at most at once, of {'any' if allowed == _UNLIMITED else allowed}")
    else:
        words = f"{name} in {region}: {allowed}, the largest job takes {quota.least}, at most {quota.peak} at once"
        ask = f"; ask for more on the console's page IAM & Admin → Quotas, project {config.vertex.project}"
        yield error("quota", words + ask) if allowed < quota.least else warning("quota", words + ask)


def _limit_in(limits: list[dict], region: str) -> int | None:
    """The limit of a region; of several the least, and where it has none of its own the default."""
    found = []
    for item in limits:
        if "{region}" not in item.get("unit", "") or "{zone}" in item.get("unit", ""):
            continue
        by_region = {
            bucket.get("dimensions", {}).get("region"): int(bucket["effectiveLimit"])
            for bucket in item.get("quotaBuckets", [])
            if "effectiveLimit" in bucket
        }
        value = by_region.get(region, by_region.get(None))
        found += [] if value is None else [value]
    limited = [value for value in found if value != _UNLIMITED]
    return min(limited) if limited else (_UNLIMITED if found else None)
