"""Settings of a run in the cloud: Vertex AI, Dataflow, and what each kind of node gets on either kind of Kubeflow."""

import math
import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from components.vertex_push.settings import RegistryConfig, Target
from trainer.config import Count, Positive, Settings, spelt

Gpu = Literal[
    "NVIDIA_TESLA_T4",
    "NVIDIA_TESLA_P100",
    "NVIDIA_TESLA_V100",
    "NVIDIA_L4",
    "NVIDIA_TESLA_A100",
    "NVIDIA_A100_80GB",
    "NVIDIA_H100_80GB",
]
# Vertex AI's machine families, by the accelerator that they can hold.
_FAMILY = {
    "NVIDIA_TESLA_T4": "n1-",
    "NVIDIA_TESLA_P100": "n1-",
    "NVIDIA_TESLA_V100": "n1-",
    "NVIDIA_L4": "g2-",
    "NVIDIA_TESLA_A100": "a2-highgpu-",
    "NVIDIA_A100_80GB": "a2-ultragpu-",
    "NVIDIA_H100_80GB": "a3-highgpu-",
    "TPU_V2": "cloud-tpu",
    "TPU_V3": "cloud-tpu",
}
# TPUStrategy reaches the chips of one host, so only the slices that are one host.
_V5E_TOPOLOGY = {"ct5lp-hightpu-1t": "1x1", "ct5lp-hightpu-4t": "2x2", "ct5lp-hightpu-8t": "2x4"}
_OLD_TPUS, _TPU_CORES = ("TPU_V2", "TPU_V3"), 8
_NO_TENSORFLOW = ("ct6e-", "tpu7x-")
# As Compute Engine, and as Cloud TPU, call the machines of a TPU: ct5p-hightpu-4t, v5litepod-4.
_TPU = re.compile(r"(ct|tpu)\d|v\d(e|p|litepod)?-\d")

# Of Kubeflow's retry policy, as its SDK says.
_LONGEST_BACKOFF_S = 3600
# Of our own: what is beyond them is a slip of the keyboard, and what is far beyond them no message can carry.
_MOST_RETRIES, _LONGEST_TIMEOUT_H = 100, 24 * 365
# Of a persistent disk of Compute Engine.
_LARGEST_DISK_GB = 65_536

Region = Annotated[str, spelt(r"[a-z]+-[a-z]+\d+", "a region such as us-central1, no zone and no multi-region")]
Account = Annotated[
    str, spelt(r"[^@\s]+@[^@\s]+", "the address of an account, such as runner@my-project.iam.gserviceaccount.com")
]
_Project = Annotated[
    str,
    spelt(
        r"[a-z][a-z0-9-]{4,28}[a-z0-9]",
        "a project's id: 6 to 30 lower-case letters, digits and '-', a letter first, such as my-project",
    ),
]
_Network = Annotated[
    str,
    spelt(
        r"projects/\d+/global/networks/[^/]+",
        "projects/NUMBER/global/networks/NAME, such as projects/123/global/networks/default",
    ),
]
_Key = Annotated[
    str,
    spelt(
        "/".join(f"{kind}/[^/]+" for kind in ("projects", "locations", "keyRings", "cryptoKeys")),
        "projects/PROJECT/locations/REGION/keyRings/RING/cryptoKeys/KEY",
    ),
]
_Experiment = Annotated[
    str,
    spelt(r"[a-z0-9][a-z0-9-]{0,127}", "at most 128 lower-case letters, digits and '-', such as simclr"),
]
_Folder = Annotated[str, spelt(r"gs://.*", "a folder on Cloud Storage, such as gs://my-bucket/dataflow")]
_Subnetwork = Annotated[
    str,
    spelt(
        r".*regions/[^/]+/subnetworks/[^/]+",
        "regions/REGION/subnetworks/NAME, such as regions/us-central1/subnetworks/default",
    ),
]
_Backoff = Annotated[int, Field(ge=1, le=_LONGEST_BACKOFF_S)]
_LABEL_KEY, _LABEL_VALUE = r"^[a-z][a-z0-9_-]{0,62}$", r"^[a-z0-9_-]{0,63}$"


def _fault_of_pair(accelerator: str | None, count: int) -> str | None:
    if (accelerator is None) == (count == 0):
        return None
    return f"accelerator {accelerator} with accelerator_count {count}: give both, or neither"


class NodeConfig(Settings):
    """What the container of one kind of node gets."""

    image: str | None = Field(None, description="container image; null: `vertex.image`")
    cpu: Positive = Field(2.0, description="virtual CPUs")
    memory_gb: Positive = Field(8.0, description="memory")
    accelerator: Gpu | None = Field(None, description="GPU; null: none")
    accelerator_count: Annotated[int, Field(ge=0)] = Field(0, description="GPUs")
    retries: Annotated[int, Field(ge=0, le=_MOST_RETRIES)] = Field(
        2, description="further attempts after a failure; on Vertex AI none of a node that hires machines"
    )
    cache: bool = Field(True, description="use the results of an earlier execution with the same inputs and code")

    @model_validator(mode="after")
    def _accelerators_have_a_kind(self) -> "NodeConfig":
        fault = _fault_of_pair(self.accelerator, self.accelerator_count)
        if fault:
            raise ValueError(fault)
        return self


class NodesConfig(Settings):
    """The kinds of node; a kind's settings are those of each of its nodes."""

    ingest: NodeConfig = NodeConfig(cpu=4.0, memory_gb=16.0)
    check: NodeConfig = NodeConfig()
    transform: NodeConfig = NodeConfig(cpu=4.0, memory_gb=16.0)
    pretrain: NodeConfig = NodeConfig(cpu=4.0, memory_gb=16.0)
    classify: NodeConfig = NodeConfig(cpu=4.0, memory_gb=16.0)
    evaluate: NodeConfig = NodeConfig(cpu=4.0, memory_gb=16.0)
    publish: NodeConfig = NodeConfig()


class RetryConfig(Settings):
    """How long a node waits for its next attempt."""

    backoff_s: _Backoff = Field(60, description="before the first further attempt")
    factor: Annotated[float, Field(ge=1)] = Field(2.0, description="by which each wait is longer than the one before")
    max_backoff_s: _Backoff = Field(3600, description="longest wait")

    @model_validator(mode="after")
    def _waits_are_in_order(self) -> "RetryConfig":
        if self.max_backoff_s < self.backoff_s:
            raise ValueError(f"max_backoff_s {self.max_backoff_s} is below backoff_s {self.backoff_s}: raise it")
        return self


class PretrainingConfig(Settings):
    """The machines that Pretrain, and each Distill, hires on Vertex AI as a CustomJob."""

    machine_type: str | None = Field(
        None,
        description="such as n1-standard-8, cloud-tpu (v2, v3) or ct5lp-hightpu-4t (v5e); null: no machines of its "
        "own, a training is in its node",
    )
    image: str | None = Field(None, description="image of the workers, for a TPU its own; null: `vertex.image`")
    accelerator: Literal[Gpu, "TPU_V2", "TPU_V3"] | None = Field(None, description="of each machine; null for v5e")
    accelerator_count: Annotated[int, Field(ge=0)] = Field(0, description="GPUs, or TPU cores, of each machine")
    tpu_topology: str | None = Field(None, description="of a v5e: 1x1, 2x2 or 2x4, as its machine type has chips")
    machines: Count = Field(1, description="more than one for `pretrain.compute.strategy` multi_worker")
    spot: bool = Field(False, description="cheaper machines that may be taken away; the checkpoint goes on elsewhere")
    timeout_h: Annotated[float, Field(gt=0.0, le=_LONGEST_TIMEOUT_H)] = Field(
        24.0, description="longest time that the job may run"
    )
    boot_disk_gb: Annotated[int, Field(ge=100, le=_LARGEST_DISK_GB)] = Field(100, description="SSD of each machine")

    @property
    def strategy(self) -> str:
        """The `compute.strategy` that uses all of the machines."""
        if self.machine_type == "cloud-tpu" or self.machine_type in _V5E_TOPOLOGY:
            return "tpu"
        if self.machines > 1:
            return "multi_worker"
        return "mirrored" if self.accelerator_count > 1 else "one_device"

    @property
    def replicas(self) -> int:
        """Replicas of the training on all machines: chips of a v5e, cores of an older TPU, GPUs, or the machines."""
        chips = math.prod(map(int, self.tpu_topology.split("x"))) if self.tpu_topology else self.accelerator_count
        return max(chips, 1) * self.machines

    @model_validator(mode="after")
    def _machine_exists(self) -> "PretrainingConfig":
        fault = self._fault_of_tpu() or _fault_of_pair(self.accelerator, self.accelerator_count)
        if fault:
            raise ValueError(fault)
        if self.accelerator and not (self.machine_type or "").startswith(_FAMILY[self.accelerator]):
            raise ValueError(
                f"accelerator {self.accelerator} with machine_type {self.machine_type}: it goes into machines of the "
                f"family {_FAMILY[self.accelerator]}"
            )
        return self

    def _fault_of_tpu(self) -> str | None:
        machine = self.machine_type or ""
        if machine.startswith(_NO_TENSORFLOW):
            return (
                f"machine_type {machine}: TensorFlow does not support TPUs from v6e on; take ct5lp-hightpu-4t with "
                "tpu_topology 2x2, or cloud-tpu with accelerator TPU_V3"
            )
        if _TPU.match(machine) and not machine.startswith("ct5lp-"):
            return (
                f"machine_type {machine}: of TPUs only v2, v3 and v5e are known here; take ct5lp-hightpu-4t with "
                "tpu_topology 2x2, or cloud-tpu with accelerator TPU_V3"
            )
        if self.strategy == "tpu" and self.machines > 1:
            return f"machines {self.machines} with machine_type {machine}: a TPU host trains alone; set machines to 1"
        if machine.startswith("ct5lp-"):
            return self._fault_of_v5e(machine)
        if self.tpu_topology is not None:
            return f"tpu_topology {self.tpu_topology} with machine_type {self.machine_type}: only v5e has one"
        if machine == "cloud-tpu" and (self.accelerator not in _OLD_TPUS or self.accelerator_count != _TPU_CORES):
            return (
                f"machine_type cloud-tpu with accelerator {self.accelerator} and accelerator_count "
                f"{self.accelerator_count}: set {' or '.join(_OLD_TPUS)}, and {_TPU_CORES}, the cores of one host"
            )
        return None

    def _fault_of_v5e(self, machine: str) -> str | None:
        topology = _V5E_TOPOLOGY.get(machine)
        if topology is None:
            return f"machine_type {machine}: a v5e host is one of {', '.join(_V5E_TOPOLOGY)}"
        if self.tpu_topology != topology:
            return (
                f"tpu_topology {self.tpu_topology} with machine_type {machine}: set it to {topology}, the slice that "
                "is this one host; TPUStrategy reaches no chip of another"
            )
        if self.accelerator or self.accelerator_count:
            return (
                f"accelerator {self.accelerator} and accelerator_count {self.accelerator_count} with machine_type "
                f"{machine}: the machine type names the chips; leave both out"
            )
        return None


class VertexConfig(Settings):
    """Where and as whom the compiled pipeline runs; that of open-source Kubeflow shares root, image and nodes."""

    project: _Project | None = Field(None, description="Google Cloud project; must be given to compile")
    region: Region = Field("us-central1", description="of the pipeline, its training and its Dataflow jobs")
    pipeline_root: str | None = Field(
        None, description="gs:// folder of all that runs leave; must be given to compile"
    )
    image: str | None = Field(None, description="image of every container without its own; must be given to compile")
    service_account: Account | None = Field(None, description="runs the pipeline; null: the project's default")
    network: _Network | None = Field(None, description="peered VPC network, projects/NUMBER/global/networks/NAME")
    kms_key: _Key | None = Field(
        None, description="customer-managed key of all that Vertex AI stores; in the same region"
    )
    labels: dict[str, str] = Field({}, description="of the pipeline's jobs, for the bill")
    experiment: _Experiment | None = Field(
        None, description="of Vertex AI, which lists the runs side by side; made if need be"
    )
    failure_policy: Literal["fast", "slow"] = Field(
        "slow", description="after a failed node: fast begins no other, slow still runs all that do not need it"
    )
    pretraining: PretrainingConfig = PretrainingConfig()
    nodes: NodesConfig = NodesConfig()
    retry: RetryConfig = RetryConfig()
    registry: RegistryConfig = RegistryConfig()

    @property
    def enters(self) -> bool:
        """Whether what a run has made is entered anywhere: as a version of a model, or in an experiment."""
        return self.registry.model is not None or self.experiment is not None

    @property
    def target(self) -> Target | None:
        """Registry and experiment as their calls take them; None: there is neither."""
        if not self.enters:
            return None
        return Target(
            project=self.project,
            region=self.region,
            kms_key=self.kms_key,
            service_account=self.service_account,
            labels=self.labels,
            experiment=self.experiment,
            registry=self.registry,
        )

    @field_validator("labels")
    @classmethod
    def _labels_are_legal(cls, labels: dict[str, str]) -> dict[str, str]:
        for key, value in labels.items():
            if not re.match(_LABEL_KEY, key) or not re.match(_LABEL_VALUE, value):
                raise ValueError(
                    f"{key}: {value}: a label is of lower-case letters, digits, '-' and '_', at most 63, and its key "
                    "begins with a letter"
                )
        return labels

    @model_validator(mode="after")
    def _key_is_in_the_region(self) -> "VertexConfig":
        if self.kms_key and f"/locations/{self.region}/" not in self.kms_key:
            raise ValueError(f"kms_key {self.kms_key} is not in region {self.region}: take a key of that region")
        return self


class DataflowConfig(Settings):
    """The workers that Beam hires for ingestion, statistics, transform, split and leakage gate."""

    machine_type: str = Field("e2-standard-4", description="of a worker")
    max_workers: Count = Field(10, description="to which Dataflow scales")
    disk_gb: Annotated[int, Field(ge=30, le=_LARGEST_DISK_GB)] = Field(50, description="of a worker")
    image: str | None = Field(None, description="of the workers; null: `vertex.image`")
    temp_location: _Folder | None = Field(None, description="gs:// folder; null: below the pipeline root")
    service_account: Account | None = Field(None, description="of the workers; null: `vertex.service_account`")
    subnetwork: _Subnetwork | None = Field(
        None, description="regions/REGION/subnetworks/NAME; null: the default network"
    )
    public_ips: bool = Field(True, description="false needs a subnetwork with private access to Google")

    @model_validator(mode="after")
    def _private_workers_have_a_subnetwork(self) -> "DataflowConfig":
        if not self.public_ips and self.subnetwork is None:
            raise ValueError("public_ips false without a subnetwork: give one with private access to Google")
        return self
