"""Checks that ask Google, as the person who will submit: project, buckets, images, accounts, quotas, network, key."""

import functools
import re
from collections.abc import Iterator

from google.api_core import exceptions

from pipeline.config import PipelineConfig
from pipeline.runners.vertex_preflight import needs, offline, roles
from pipeline.runners.vertex_preflight.catalog import Catalog
from pipeline.runners.vertex_preflight.findings import Finding, error, has_errors, not_checked, note, ok, warning
from pipeline.runners.vertex_preflight.rest import Rest, is_off, looked, part

_TO_SUBMIT = ("aiplatform.pipelineJobs.create", "aiplatform.pipelineJobs.get")
_TO_ACT_AS = "iam.serviceAccounts.actAs"
_TO_WRITE = ("storage.objects.create", "storage.objects.delete", "storage.objects.get", "storage.objects.list")
_IMAGE = re.compile(
    r"(?P<location>[a-z0-9-]+)-docker\.pkg\.dev/(?P<project>[^/]+)/(?P<repository>[^/]+)/(?P<name>[^@:]+)"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64})|:(?P<tag>[\w.-]+))?"
)
_SUBNETWORK = re.compile(r"(?:projects/(?P<project>[^/]+)/)?regions/(?P<region>[^/]+)/subnetworks/(?P<name>[^/]+)$")
_GLOB = re.compile(r"[*?\[{]")
_UNLIMITED = -1
# What the names of regions in a bucket's location begin with, where it is more than one.
_LOCATIONS = {
    "us": ("us-",),
    "eu": ("europe-",),
    "asia": ("asia-",),
    "nam4": ("us-central1", "us-east1"),
    "eur4": ("europe-north1", "europe-west4"),
    "asia1": ("asia-northeast1", "asia-northeast2"),
}


def check(config: PipelineConfig, table: Catalog, rest: Rest) -> list[Finding]:
    """All that Google tells; what may not be asked is said to be not checked. A project that is not there ends it.

    Raises:
        GoogleAuthError: the credentials do not hold.
    """
    found = looked("vertex.project", lambda: project(config, rest))
    if has_errors(found):
        return found
    checks = [("APIs", services), ("your permissions", permissions), ("roles", accounts), ("buckets", buckets)]
    checks += [("images", images), ("network", network), ("vertex.kms_key", key)]
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
    lacking = _lacking(rest.post(url, {"permissions": list(_TO_SUBMIT)}), _TO_SUBMIT)
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
    if _lacking(answer, (_TO_ACT_AS,)):
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


def buckets(config: PipelineConfig, rest: Rest) -> Iterator[Finding]:
    """The root's bucket exists, near and writable; the sources' exist, and have an object where the path says."""
    root = config.vertex.pipeline_root or ""
    yield from looked("vertex.pipeline_root", lambda: _bucket("vertex.pipeline_root", root, config, rest))
    yield from looked("vertex.pipeline_root", lambda: _writable(root, rest))
    for field, path in roles.sources(config).items():
        seen = looked(field, functools.partial(_bucket, field, path, config, rest))
        yield from seen
        if not has_errors(seen):
            yield from looked(field, functools.partial(_source, field, path, rest))


def images(config: PipelineConfig, rest: Rest) -> Iterator[Finding]:
    """Each exists; a tag is told with the digest that it means now."""
    for field, image in offline.all_images(config).items():
        yield from looked(field, functools.partial(_image, field, image, rest))


def network(config: PipelineConfig, rest: Rest) -> Iterator[Finding]:
    """The peered network and the workers' subnetwork exist; private workers can reach Google from theirs."""
    vertex, workers = config.vertex, config.beam.dataflow
    compute = f"{rest.endpoints.compute}/compute/v1"
    if vertex.network:
        yield from looked(
            "vertex.network", lambda: [_exists("vertex.network", f"{compute}/{vertex.network}", rest)[0]]
        )
    found = _SUBNETWORK.search(workers.subnetwork or "") if config.beam.runner == "dataflow" else None
    if found:
        place = f"projects/{found['project'] or vertex.project}/regions/{found['region']}/subnetworks/{found['name']}"
        yield from looked("beam.dataflow.subnetwork", lambda: _subnetwork(f"{compute}/{place}", config, rest))


def key(config: PipelineConfig, rest: Rest) -> Iterator[Finding]:
    """The customer-managed key exists and its first version is on."""
    if config.vertex.kms_key is None:
        return
    finding, answer = _exists("vertex.kms_key", f"{rest.endpoints.kms}/v1/{config.vertex.kms_key}", rest)
    state = answer.get("primary", {}).get("state", "ENABLED")
    off = error("vertex.kms_key", f"{config.vertex.kms_key}: its primary version is {state}; enable it")
    yield finding if state == "ENABLED" else off


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


def _bucket(field: str, path: str, config: PipelineConfig, rest: Rest) -> Iterator[Finding]:
    name, region = roles.bucket_of(path), config.vertex.region
    try:
        answer = rest.get(f"{rest.endpoints.storage}/storage/v1/b/{part(name.removeprefix('gs://'))}")
    except exceptions.NotFound:
        yield error(field, f"{name}: no such bucket; gcloud storage buckets create {name} --location {region}")
        return
    location = answer.get("location", "").lower()
    fits = location == region or region.startswith(_LOCATIONS.get(location, ()))
    places = answer.get("customPlacementConfig", {}).get("dataLocations", [])
    if fits or region.upper() in places:
        yield ok(field, f"{name}: exists, in {location}")
    else:
        words = (
            f"{name}: in {location}, the run in {region}: every read and write crosses regions, slowly and at a price"
        )
        yield warning(field, words)


def _writable(path: str, rest: Rest) -> Iterator[Finding]:
    name = roles.bucket_of(path)
    url = f"{rest.endpoints.storage}/storage/v1/b/{part(name.removeprefix('gs://'))}/iam/testPermissions"
    try:
        lacking = _lacking(rest.get(url, permissions=list(_TO_WRITE)), _TO_WRITE)
    except exceptions.NotFound:
        return  # told by the look at the bucket
    if lacking:
        words = f"{name}: you lack {', '.join(lacking)}; only the run's account needs them, but nobody looked there"
        yield warning("vertex.pipeline_root", words)
    else:
        yield ok("vertex.pipeline_root", f"{name}: you may write there; the run's account needs {roles.WRITE} too")


def _source(field: str, path: str, rest: Rest) -> Iterator[Finding]:
    bucket, _, name = path.removeprefix("gs://").partition("/")
    prefix = _GLOB.split(name)[0]
    url = f"{rest.endpoints.storage}/storage/v1/b/{part(bucket)}/o"
    if rest.get(url, prefix=prefix, maxResults=1).get("items"):
        yield ok(field, f"{path}: there is something")
    else:
        yield error(
            field, f"{path}: no object begins with gs://{bucket}/{prefix}; upload the images, or mend the path"
        )


def _image(field: str, image: str, rest: Rest) -> Iterator[Finding]:
    found = _IMAGE.fullmatch(image)
    if not found:
        yield not_checked(field, f"{image}: not in Artifact Registry, so nobody looked")
        return
    place = f"projects/{found['project']}/locations/{found['location']}/repositories/{found['repository']}"
    url = f"{rest.endpoints.artifact_registry}/v1/{place}/packages/{part(found['name'])}"
    try:
        if found["digest"]:
            rest.get(f"{url}/versions/{found['digest']}")
            yield ok(field, f"{image}: exists")
            return
        answer = rest.get(f"{url}/tags/{found['tag'] or 'latest'}")
    except exceptions.NotFound:
        yield error(field, f"{image}: does not exist; build and push it, see docs/infra.md")
        return
    digest = answer["version"].rpartition("/")[2]
    yield ok(field, f"{image}: exists, now {image.partition(':')[0]}@{digest}")


def _subnetwork(url: str, config: PipelineConfig, rest: Rest) -> Iterator[Finding]:
    finding, answer = _exists("beam.dataflow.subnetwork", url, rest)
    yield finding
    if not config.beam.dataflow.public_ips and answer and not answer.get("privateIpGoogleAccess"):
        words = "its private access to Google is off, and without public addresses workers reach nothing; turn it on"
        yield error("beam.dataflow.subnetwork", f"{config.beam.dataflow.subnetwork}: {words}")


def _exists(field: str, url: str, rest: Rest) -> tuple[Finding, dict]:
    name = url.partition("/v1/")[2]
    try:
        return ok(field, f"{name}: exists"), rest.get(url)
    except exceptions.NotFound:
        return error(field, f"{name}: does not exist"), {}


def _lacking(answer: dict, wanted: tuple[str, ...]) -> list[str]:
    return [name for name in wanted if name not in answer.get("permissions", [])]
