"""Checks that need no network and no credentials: fields, images, machines, quotas, roles."""

import re
from collections.abc import Iterator
from importlib.metadata import version

from pipeline.cloud import NodeConfig
from pipeline.config import PipelineConfig
from pipeline.runners.vertex_preflight import cost, needs, roles
from pipeline.runners.vertex_preflight.catalog import Catalog
from pipeline.runners.vertex_preflight.findings import Finding, error, not_checked, note, ok, warning

_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
_REGISTRY = re.compile(r"(?P<location>[a-z0-9-]+)-docker\.pkg\.dev/")
_SUBNETWORK = re.compile(r"regions/(?P<region>[^/]+)/subnetworks/")
_MULTI_REGIONS = ("us", "europe", "asia")
_BUCKET = re.compile(r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](/|$)")
# registry/path/name, in lower case, then a tag or a digest.
_IMAGE = re.compile(r"[a-z0-9][a-z0-9.:-]*(/[a-z0-9][a-z0-9._:-]*)*(:[\w.-]+)?(@.+)?", re.ASCII)
# Of infra/docker/tpu.Dockerfile.
_TPU_STACK = "1.16"


def check(config: PipelineConfig, table: Catalog) -> list[Finding]:
    """All that the configuration alone tells."""
    found = [*places(config, table), *images(config), *node_machines(config, table)]
    found += [*pretraining(config, table), *workers(config, table)]
    found += [*serving(config, table), *quotas(config, table)]
    return found + cost.estimate(config, table)


def places(config: PipelineConfig, table: Catalog) -> Iterator[Finding]:
    """Project, region, and that all paths are on Cloud Storage."""
    vertex = config.vertex
    for name in ("project", "pipeline_root", "image"):
        if getattr(vertex, name) is None:
            yield error(f"vertex.{name}", "null: must be given; see infra/vertex.example.yaml")
    if vertex.region in table.regions:
        yield ok("vertex.region", f"{vertex.region}: one of Vertex AI's")
    else:
        yield warning(
            "vertex.region", f"{vertex.region}: not in the table of {table.date}, so nothing was checked for it"
        )
    if vertex.service_account is None:
        yield warning(
            "vertex.service_account",
            "null: the run gets Compute Engine's default account, which may do far more than it needs, or nothing; "
            "infra/terraform makes one of its own",
        )
    for field, path in {**roles.written(config), **roles.sources(config)}.items():
        if not path.startswith("gs://"):
            yield error(field, f"{path}: must be on gs://, no machine in the cloud sees this disk")
        elif not _BUCKET.match(path):
            yield error(
                field,
                f"{path}: no bucket has such a name; gs://BUCKET/…, of at least 3 lower-case letters, digits, '-', "
                "'_' and '.', a letter or digit at either end",
            )
        else:
            yield ok(field, f"{path}: on Cloud Storage")


def all_images(config: PipelineConfig) -> dict[str, str]:
    """Every image that the run pulls, with the field that names it first."""
    vertex = config.vertex
    fields = {"vertex.image": vertex.image, "vertex.pretraining.image": vertex.pretraining.image}
    fields |= {f"vertex.nodes.{kind}.image": getattr(vertex.nodes, kind).image for kind in needs.nodes(config)}
    if config.beam.runner == "dataflow":
        fields["beam.dataflow.image"] = config.beam.dataflow.image
    first: dict[str, str] = {}
    for field, image in fields.items():
        if image and image not in first:
            first[image] = field
    return {field: image for image, field in first.items()}


def images(config: PipelineConfig) -> Iterator[Finding]:
    """By digest, and near the machines that pull them."""
    for field, image in all_images(config).items():
        name = image.rpartition("/")[2].partition("@")[0]
        tag = name.partition(":")[2]
        if not _IMAGE.fullmatch(image) or ":" in tag:
            yield error(
                field, f"{image}: no image has such a name; HOST/PROJECT/REPOSITORY/NAME@sha256:…, in lower case"
            )
        elif _DIGEST.search(image):
            yield ok(field, f"{image}: by digest")
        elif "@" in image:
            yield error(field, f"{image}: a digest is @sha256: and 64 hexadecimal digits")
        elif tag in ("", "latest"):
            yield error(field, f"{image}: means another image with each push; give its digest, IMAGE@sha256:…")
        else:
            yield warning(
                field,
                f"{image}: a tag can be moved, and a cached node would not run anew; give the digest, IMAGE@sha256:…",
            )
        registry = _REGISTRY.match(image)
        region = config.vertex.region
        if registry and registry["location"] not in (region, *_near(region)):
            yield warning(
                field,
                f"{image}: in {registry['location']}, the run in {region}: each machine pulls it across regions, "
                "slowly and at a price",
            )


def _near(region: str) -> tuple[str, ...]:
    """The multi-regions that hold a region."""
    continent = region.partition("-")[0]
    return tuple(name for name in _MULTI_REGIONS if name == continent)


def node_machines(config: PipelineConfig, table: Catalog) -> Iterator[Finding]:
    """Size and GPUs of the pipeline's own nodes."""
    for kind in needs.nodes(config):
        node: NodeConfig = getattr(config.vertex.nodes, kind)
        yield from _size(kind, node, table)
        if node.accelerator:
            field = f"vertex.nodes.{kind}.accelerator"
            yield from _gpu(field, node.accelerator, node.accelerator_count, node.cpu, config.vertex.region, table)


def _size(kind: str, node: NodeConfig, table: Catalog) -> Iterator[Finding]:
    """Vertex AI looks for a machine of that size, and a run waits for one that there is not."""
    vcpus, gb = table.largest
    for field, wanted, most in (("cpu", node.cpu, vcpus), ("memory_gb", node.memory_gb, gb)):
        if wanted > most:
            yield warning(
                f"vertex.nodes.{kind}.{field}",
                f"{wanted:g}: no machine of the table of {table.date} has more than {most:g}",
            )


def pretraining(config: PipelineConfig, table: Catalog) -> Iterator[Finding]:
    """The machines that Pretrain hires. What no region has, such as a TPU v6e, the configuration refuses itself."""
    settings, region = config.vertex.pretraining, config.vertex.region
    if settings.machine_type is None:
        return
    retries = config.vertex.nodes.pretrain.retries
    if retries:
        yield note(
            "vertex.nodes.pretrain.retries",
            f"{retries}, but none for a node that hires machines: it might hire them twice. What is given up goes on "
            "from its checkpoint in the next run",
        )
    field = "vertex.pretraining.machine_type"
    found = needs.tpu(settings, table)
    if found:
        name, generation, _ = found
        if settings.image is None:
            yield warning(
                "vertex.pretraining.image",
                "null: the machines get vertex.image, but a TPU wants TensorFlow built for it; build one from "
                "infra/docker/tpu.Dockerfile",
            )
        if not version("tfx").startswith(f"{_TPU_STACK}."):
            yield warning(
                "vertex.pretraining.image",
                f"the image for TPUs is of TFX {_TPU_STACK}, what compiles here of {version('tfx')}, and a run that "
                f"mixes them was never tried: `make environment STACK={_TPU_STACK}`, and vertex.image of that stack",
            )
        what = f"{settings.machine_type}, {name}" + (f" {settings.tpu_topology}" if settings.tpu_topology else "")
        where = f"those with it: {', '.join(generation.regions)}"
        if region not in table.regions:
            yield not_checked(field, f"{what}: {region} is not in the table of {table.date}; {where}")
        elif region in generation.regions:
            yield ok(field, f"{what}: Cloud TPU has it in {region}, and TensorFlow runs on it")
        elif region in generation.unsure:
            yield warning(field, f"{what}: perhaps not in {region}, which has a price but no zone for it; {where}")
        else:
            yield error(field, f"{what}: not in {region} by the table of {table.date}; {where}")
        return
    machine = table.machine(settings.machine_type)
    alike = table.alike(settings.machine_type)
    if machine is None and alike:
        what = f"{settings.machine_type}: Vertex AI trains on no such size by the table of {table.date}"
        yield error(field, f"{what}; on {', '.join(alike)}")
    elif machine is None:
        yield warning(field, f"{settings.machine_type}: not in the table of {table.date}: not checked")
    else:
        yield ok(field, f"{settings.machine_type}: {machine.vcpus} vCPUs, {machine.gb:g} GB")
    if not settings.accelerator:
        if machine and machine.accelerators:
            yield error(field, f"{settings.machine_type}: give vertex.pretraining.accelerator and accelerator_count "
                        f"{machine.accelerators}, which it has")  # fmt: skip
        return
    field, count = "vertex.pretraining.accelerator", settings.accelerator_count
    if machine and machine.accelerators and machine.accelerators != count:
        yield error(
            field, f"{settings.machine_type} has {machine.accelerators}, not {count}: set accelerator_count to it"
        )
        return
    yield from _gpu(field, settings.accelerator, count, machine.vcpus if machine else 0, region, table)


def _gpu(field: str, name: str, count: int, vcpus: float, region: str, table: Catalog) -> Iterator[Finding]:
    gpu = table.gpus[name]
    what = f"{count} {name}"
    if count not in gpu.most_vcpus:
        yield error(field, f"{what}: a machine takes {', '.join(map(str, gpu.most_vcpus))} of them")
    elif vcpus > gpu.most_vcpus[count]:
        yield error(field, f"{what} with {vcpus:g} vCPUs: at most {gpu.most_vcpus[count]} with so many of them")
    if region not in table.regions:
        yield not_checked(field, f"{what}: {region} is not in the table of {table.date}")
    elif region in gpu.regions:
        yield ok(field, f"{what}: Compute Engine has it in {region}")
    else:
        yield error(field, f"{what}: not in {region} by the table of {table.date}; in {', '.join(gpu.regions)}")


def workers(config: PipelineConfig, table: Catalog) -> Iterator[Finding]:
    """Dataflow's workers."""
    if config.beam.runner != "dataflow":
        return
    settings = config.beam.dataflow
    if table.machine(settings.machine_type):
        yield ok("beam.dataflow.machine_type", f"{settings.machine_type}: a machine of the table")
    else:
        words = f"{settings.machine_type}: not in the table of {table.date}: not checked"
        yield warning("beam.dataflow.machine_type", words)
    found = _SUBNETWORK.search(settings.subnetwork or "")
    if found and found["region"] != config.vertex.region:
        words = f"{settings.subnetwork}: workers run in {config.vertex.region}; take a subnetwork of that region"
        yield error("beam.dataflow.subnetwork", words)


def serving(config: PipelineConfig, table: Catalog) -> Iterator[Finding]:
    """The machines of the endpoint."""
    registry = config.vertex.registry
    if registry.endpoint is None:
        return
    if table.server(registry.machine_type):
        yield ok("vertex.registry.machine_type", f"{registry.machine_type}: a machine of the table")
    else:
        words = f"{registry.machine_type}: not in the table of {table.date}: not checked"
        yield warning("vertex.registry.machine_type", words)


def quotas(config: PipelineConfig, table: Catalog) -> Iterator[Finding]:
    """What to compare with the project's quotas."""
    for quota in needs.quotas(config, table):
        yield note(
            "quota",
            f"{quota.service}/{quota.metric} in {config.vertex.region}: {quota.peak} at most at once, {quota.least} "
            "for the largest job",
        )


def unasked(config: PipelineConfig) -> Iterator[Finding]:
    """What stands in the place of Google's answers where nobody asks for them."""
    pretraining = config.vertex.pretraining
    told_by_the_table = pretraining.accelerator is not None or pretraining.tpu_topology is not None
    for field, machine in needs.machine_types(config).items():
        if field == "vertex.pretraining.machine_type" and told_by_the_table:
            continue
        yield not_checked(
            field,
            f"{machine}: whether {config.vertex.region} has it; `gcloud compute machine-types list --filter "
            f"name={machine}` tells",
        )
    yield from accounts(config)


def accounts(config: PipelineConfig) -> Iterator[Finding]:
    """The roles that each account needs, for a person to compare."""
    grants = list(roles.grants(config))
    for account in dict.fromkeys(grant.account for grant in grants):
        lines = [f"{grant.role} on {grant.place}: {grant.why}" for grant in grants if grant.account == account]
        yield note(f"roles of {account}", "\n".join(lines))
