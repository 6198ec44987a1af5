"""What a run hires: nodes by kind, Pretrain's and Distill's machines, Dataflow's workers, and the quotas of these."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.cloud import NodeConfig, PretrainingConfig
from pipeline.config import PipelineConfig
from pipeline.runners.vertex_preflight.catalog import Catalog, Tpu, TpuHost

VERTEX, COMPUTE = "aiplatform.googleapis.com", "compute.googleapis.com"
# Of the nodes that hire Dataflow workers: of those that check, both StatisticsGen and LeakageGate; LabelFractionSplit
# begins two, one after the other.
DATAFLOW_JOBS = Counter(ingest=2, check=3, transform=4)
# LeakageGate beside StatisticsGen or Transform of each source.
DATAFLOW_JOBS_AT_ONCE = 3
# The host of a TPU v2 or v3 goes by a name of Vertex AI's own, and is none of Compute Engine's types.
_OLD_TPU_HOST = "cloud-tpu"
# Families whose vCPUs Compute Engine counts together.
_COUNTED_TOGETHER = ("e2", "n1", "f1", "g1")


@dataclass(frozen=True)
class Quota:
    """How much of a quota a run uses.

    Attributes:
        service: that counts it.
        metric: its name there, after the slash.
        least: what the largest single job takes: below it the run cannot end.
        peak: at most at once: below it jobs wait or fail.
    """

    service: str
    metric: str
    least: int
    peak: int


def nodes(config: PipelineConfig) -> Counter[str]:
    """How many nodes of each kind the pipeline has, the exit handler among them."""
    grows = bool(config.retrain.store)  # then there are Drift and SpanTrained, too
    return Counter(
        ingest=2,
        check=9,
        transform=3,
        pretrain=1 + _distilled(config),
        classify=2 * len(config.fractions),
        evaluate=2 + grows,
        publish=3 + bool(config.vertex.enters) + grows,
    )


def phases(config: PipelineConfig) -> tuple[Counter[str], ...]:
    """Nodes that can run at once: whatever runs at a time are no more of any kind than in one of these."""
    fractions, distilled = len(config.fractions), _distilled(config)
    drift = int(bool(config.retrain.store))
    # The labelled images come first; a node of theirs may run beside the other ingestion, unless all wait for that.
    beside = ("check", "transform") if not config.retrain.store else ()
    ingesting = [Counter({"ingest": 1, kind: 1}) for kind in beside] or [Counter(ingest=1)]
    # LeakageGate beside a node of each source; then what trains on labels alone beside one of the unlabeled images.
    preparing = [Counter(check=3 - transforms, transform=transforms, evaluate=drift) for transforms in range(3)]
    preparing += [Counter({kind: 1, "classify": fractions, "evaluate": drift}) for kind in ("check", "transform")]
    pretraining = [Counter(pretrain=1, transform=1), Counter(pretrain=1, classify=fractions)]
    # The Evaluator and Push wait for one of those that are trained, LinearEval and the others for none of them.
    others = Counter(classify=2 * fractions - 1, pretrain=max(0, distilled - 1), evaluate=1)
    evaluating = [Counter(classify=2 * fractions, pretrain=distilled, evaluate=1)]
    evaluating += [others + Counter({kind: 1}) for kind in ("evaluate", "publish")]
    return (*ingesting, *preparing, *pretraining, *evaluating)


def _distilled(config: PipelineConfig) -> int:
    """Nodes that distil: they hire what Pretrain does, all at once."""
    return len(config.fractions) if config.distill.enabled else 0


def tpu(pretraining: PretrainingConfig, table: Catalog) -> tuple[str, Tpu, TpuHost] | None:
    """Name, generation and host of the TPU that Pretrain hires; None: it hires none."""
    if pretraining.strategy != "tpu":
        return None
    name = "TPU_V5E" if pretraining.tpu_topology else str(pretraining.accelerator)
    generation = table.tpus[name]
    return name, generation, generation.hosts[pretraining.tpu_topology or ""]


def machine_types(config: PipelineConfig) -> dict[str, str]:
    """The types of machine that the run names, as Compute Engine calls them, by field."""
    vertex, found = config.vertex, {}
    if vertex.pretraining.machine_type not in (None, _OLD_TPU_HOST):
        found["vertex.pretraining.machine_type"] = vertex.pretraining.machine_type
    if config.beam.runner == "dataflow":
        found["beam.dataflow.machine_type"] = config.beam.dataflow.machine_type
    if vertex.registry.endpoint is not None:
        found["vertex.registry.machine_type"] = vertex.registry.machine_type
    return found


def quotas(config: PipelineConfig, table: Catalog) -> list[Quota]:
    """The quotas that the run uses, by its own arithmetic; an upper bound, since nodes need not overlap."""
    peaks: Counter[tuple[str, str]] = Counter()
    least: Counter[tuple[str, str]] = Counter()
    for phase in phases(config):
        at_once = Counter()
        for kind, count in phase.items():
            used = Counter(dict(_of_node(getattr(config.vertex.nodes, kind), table)))
            least |= used
            at_once += Counter({metric: amount * count for metric, amount in used.items()})
        if phase["pretrain"]:  # each such node hires the machines once
            used = Counter(dict(_of_machines(config.vertex.pretraining, table)))
            least |= used
            at_once += Counter({metric: amount * phase["pretrain"] for metric, amount in used.items()})
        peaks |= at_once
    if config.beam.runner == "dataflow":
        vcpus = vcpus_of(config.beam.dataflow.machine_type)
        if vcpus:
            family = config.beam.dataflow.machine_type.partition("-")[0]
            metric = COMPUTE, "cpus" if family in _COUNTED_TOGETHER else f"{family}_cpus"
            least[metric] = vcpus
            peaks[metric] = vcpus * config.beam.dataflow.max_workers * DATAFLOW_JOBS_AT_ONCE
    return [Quota(*metric, least[metric], peak) for metric, peak in sorted(peaks.items())]


def vcpus_of(machine_type: str) -> int | None:
    """Of any machine of Compute Engine whose name tells, such as n1-standard-4; None: it does not."""
    found = re.fullmatch(r"[a-z0-9]+-(?:standard|highmem|highcpu)-(\d+)", machine_type)
    return int(found[1]) if found else None


def _of_node(node: NodeConfig, table: Catalog) -> Iterator[tuple[tuple[str, str], int]]:
    family = table.gpus[node.accelerator].family if node.accelerator else "n1"
    yield _training(f"{table.families[family].quota}cpus", spot=False), math.ceil(node.cpu)
    if node.accelerator:
        yield _training(table.gpus[node.accelerator].quota, spot=False), node.accelerator_count


def _of_machines(pretraining: PretrainingConfig, table: Catalog) -> Iterator[tuple[tuple[str, str], int]]:
    spot, machines = pretraining.spot, pretraining.machines
    found = tpu(pretraining, table)
    if found:
        yield _training(found[1].quota, spot=spot), found[2].units
        return
    machine = table.machine(pretraining.machine_type or "")
    if machine:
        # Interruptible vCPUs of all families are one quota.
        cpus = "cpus" if spot else f"{table.families[machine.family].quota}cpus"
        yield _training(cpus, spot=spot), machine.vcpus * machines
    if pretraining.accelerator:
        gpu = table.gpus[pretraining.accelerator]
        yield _training(gpu.quota, spot=spot), pretraining.accelerator_count * machines


def _training(name: str, *, spot: bool) -> tuple[str, str]:
    return VERTEX, f"custom_model_training_{'preemptible_' if spot else ''}{name}"
