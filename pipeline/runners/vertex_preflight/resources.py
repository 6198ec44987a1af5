"""Checks that ask Google for what a run names: buckets, images, types of machine, network, key."""

import functools
import re
from collections.abc import Iterator

from google.api_core import exceptions

from pipeline.config import PipelineConfig
from pipeline.runners.vertex_preflight import needs, offline, roles
from pipeline.runners.vertex_preflight.findings import Finding, error, has_errors, not_checked, ok, warning
from pipeline.runners.vertex_preflight.rest import Rest, looked, not_granted, part

_TO_WRITE = ("storage.objects.create", "storage.objects.delete", "storage.objects.get", "storage.objects.list")
_IMAGE = re.compile(
    r"(?P<location>[a-z0-9-]+)-docker\.pkg\.dev/(?P<project>[^/]+)/(?P<repository>[^/]+)/(?P<name>[^@:]+)"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64})|:(?P<tag>[\w.-]+))?"
)
_SUBNETWORK = re.compile(r"(?:projects/(?P<project>[^/]+)/)?regions/(?P<region>[^/]+)/subnetworks/(?P<name>[^/]+)$")
_GLOB = re.compile(r"[*?\[{]")
# What the names of regions in a bucket's location begin with, where it is more than one.
_LOCATIONS = {
    "us": ("us-",),
    "eu": ("europe-",),
    "asia": ("asia-",),
    "nam4": ("us-central1", "us-east1"),
    "eur4": ("europe-north1", "europe-west4"),
    "asia1": ("asia-northeast1", "asia-northeast2"),
}


def buckets(config: PipelineConfig, rest: Rest) -> Iterator[Finding]:
    """Those that a run writes into exist, near and writable; the sources' have an object where the path says."""
    for field, path in roles.written(config).items():
        yield from looked(field, functools.partial(_bucket, field, path, config, rest))
        yield from looked(field, functools.partial(_writable, field, path, rest))
    for field, path in roles.sources(config).items():
        seen = looked(field, functools.partial(_bucket, field, path, config, rest))
        yield from seen
        if not has_errors(seen):
            yield from looked(field, functools.partial(_source, field, path, rest))


def images(config: PipelineConfig, rest: Rest) -> Iterator[Finding]:
    """Each exists; a tag is told with the digest that it means now."""
    for field, image in offline.all_images(config).items():
        yield from looked(field, functools.partial(_image, field, image, rest))


def machines(config: PipelineConfig, rest: Rest) -> Iterator[Finding]:
    """Compute Engine has each type of machine in the region."""
    for field, machine in needs.machine_types(config).items():
        yield from looked(field, functools.partial(_machine, field, machine, config, rest))


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


def _writable(field: str, path: str, rest: Rest) -> Iterator[Finding]:
    name = roles.bucket_of(path)
    url = f"{rest.endpoints.storage}/storage/v1/b/{part(name.removeprefix('gs://'))}/iam/testPermissions"
    try:
        lacking = not_granted(rest.get(url, permissions=list(_TO_WRITE)), _TO_WRITE)
    except exceptions.NotFound:
        return  # told by the look at the bucket
    if lacking:
        words = f"{name}: you lack {', '.join(lacking)}; only the run's account needs them, but nobody looked there"
        yield warning(field, words)
    else:
        yield ok(field, f"{name}: you may write there; the run's account needs {roles.WRITE} too")


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


def _machine(field: str, machine: str, config: PipelineConfig, rest: Rest) -> Iterator[Finding]:
    region, url = config.vertex.region, f"{rest.endpoints.compute}/compute/v1/projects/{config.vertex.project}"
    zones: list[str] = []
    page = {"filter": f"name={machine}", "returnPartialSuccess": "true"}
    while page:
        answer = rest.get(f"{url}/aggregated/machineTypes", **page)
        # A zone without it is in the answer too, with a warning.
        zones += [zone.rpartition("/")[2] for zone, found in answer["items"].items() if found.get("machineTypes")]
        page = page | {"pageToken": answer["nextPageToken"]} if "nextPageToken" in answer else {}
    regions = sorted({zone.rpartition("-")[0] for zone in zones})
    if region in regions:
        here = ", ".join(sorted(zone for zone in zones if zone.startswith(f"{region}-")))
        yield ok(field, f"{machine}: Compute Engine has it in {here}")
    elif regions:
        yield error(field, f"{machine}: Compute Engine has none in {region}; it has in {', '.join(regions)}")
    else:
        yield error(field, f"{machine}: Compute Engine has no such type of machine")


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
