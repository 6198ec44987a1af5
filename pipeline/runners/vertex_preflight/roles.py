"""The roles that the accounts of a run need, as infra/terraform/modules/identities grants them."""

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.config import PipelineConfig

_VERTEX_USER, _ACT_AS = "roles/aiplatform.user", "roles/iam.serviceAccountUser"
_PULL = "roles/artifactregistry.reader"
_READ, WRITE, _LOOK = "roles/storage.objectViewer", "roles/storage.objectUser", "roles/storage.legacyBucketReader"


@dataclass(frozen=True)
class Grant:
    """A role that an account needs.

    Attributes:
        account: e-mail address.
        role: with roles/ before it.
        place: `project`, a gs:// bucket, the repository of an image, or the account that may be acted as.
        why: what fails without it.
    """

    account: str
    role: str
    place: str
    why: str


def bucket_of(path: str) -> str:
    """gs://name of a path on Cloud Storage."""
    return "gs://" + path.removeprefix("gs://").partition("/")[0]


def sources(config: PipelineConfig) -> dict[str, str]:
    """The paths that ingestion reads, by field."""
    names = ("unlabeled", "labeled", "test", "labeled_manifest", "test_manifest")
    paths = {f"data.{name}": getattr(config.data, name) for name in names}
    return {field: path for field, path in paths.items() if path}


def written(config: PipelineConfig) -> dict[str, str]:
    """The paths that a run writes below, by field."""
    paths = {"vertex.pipeline_root": config.vertex.pipeline_root, "retrain.store": config.retrain.store}
    if config.beam.runner == "dataflow":
        paths["beam.dataflow.temp_location"] = config.beam.dataflow.temp_location
    return {field: path for field, path in paths.items() if path}


def grants(config: PipelineConfig) -> Iterator[Grant]:
    """Of the pipeline's account and of Dataflow's; none for the project's default account, which no field names."""
    vertex = config.vertex
    images = sorted({bucket_of(path) for path in sources(config).values() if path.startswith("gs://")})
    root = bucket_of(vertex.pipeline_root or "")
    store = config.retrain.store and bucket_of(config.retrain.store)
    on_dataflow = config.beam.runner == "dataflow"
    worker = config.beam.dataflow.service_account or vertex.service_account
    if vertex.service_account:
        account = vertex.service_account
        why = "Pretrain's node starts a CustomJob; VertexPusher registers models; RunSummary asks how the nodes went"
        yield Grant(account, _VERTEX_USER, "project", why)
        yield Grant(account, _ACT_AS, account, "Pretrain's CustomJob runs as the account of its node")
        yield Grant(account, WRITE, root, "artifacts, checkpoints and pushed models")
        yield Grant(account, _LOOK, root, "Vertex AI's client looks at the bucket itself")
        if store and store != root:
            yield Grant(account, WRITE, store, "spans and their ledger")
        for bucket in images:
            yield Grant(account, _READ, bucket, "ingestion lists and reads the images")
        if on_dataflow:
            why = "ingestion, statistics, transform, split and leakage gate start Dataflow jobs"
            yield Grant(account, "roles/dataflow.developer", "project", why)
            if worker != account:
                yield Grant(account, _ACT_AS, str(worker), "Dataflow jobs run as Dataflow's account")
    if on_dataflow and worker:
        yield Grant(worker, "roles/dataflow.worker", "project", "takes work, writes logs and metrics")
        image = config.beam.dataflow.image or vertex.image or ""
        yield Grant(worker, _PULL, image.rpartition("/")[0], "a worker pulls its image as itself")
        if worker != vertex.service_account:
            yield Grant(worker, WRITE, root, "shards and temporary files")
            if store and store != root:
                yield Grant(worker, WRITE, store, "shards of spans")
            for bucket in images:
                yield Grant(worker, _READ, bucket, "ingestion reads the images")
