"""What a run costs, roughly: hours that are assumed, at the list prices of the table."""

from dataclasses import dataclass

from pipeline.cloud import NodeConfig
from pipeline.config import PipelineConfig
from pipeline.runners.vertex_preflight import needs
from pipeline.runners.vertex_preflight.catalog import Catalog
from pipeline.runners.vertex_preflight.findings import COST, Finding, not_checked, note

_HOURS_A_MONTH = 730
# Of `timeout_h`, where nothing tells how long pretraining takes.
_SHORTEST_SHARE = 0.1
_ADDED_GB_A_VCPU = 4


@dataclass(frozen=True)
class Cost:
    """US dollars at least and at most."""

    low: float
    high: float

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.low + other.low, self.high + other.high)


def estimate(config: PipelineConfig, table: Catalog) -> list[Finding]:
    """The rough cost, with what it assumes; what has no price in the table is named instead."""
    prices, region = table.prices, config.vertex.region
    machines = "Pretrain's and Distill's machines" if config.distill.enabled else "Pretrain's machines"
    parts = {"nodes": _nodes(config, table), machines: _machines(config, table)}
    if config.beam.runner == "dataflow":
        parts["Dataflow"] = _dataflow(config, table)
    factor = 1.0 if region == prices.region else prices.elsewhere_factor
    unpriced = [name for name, part in parts.items() if part is None]
    counted = {name: Cost(part.low, part.high * factor) for name, part in parts.items() if part}
    total = sum(counted.values(), Cost(prices.pipeline_run_usd, prices.pipeline_run_usd))
    split = ", ".join(f"{name} {_range(part)}" for name, part in counted.items() if part.high)
    elsewhere = "" if factor == 1.0 else f"; up to {factor:g} times the prices of {prices.region} in {region}"
    found = [
        note(
            COST,
            f"{_range(total)} for one run: {split}. List prices, table of {table.date}, kept current by nobody"
            f"{elsewhere}. Assumed: {_assumed(config, table)}. Each node runs once and nothing is answered from the "
            "cache; storage, network and Dataflow's shuffling are not counted.",
        )
    ]
    found += [not_checked(COST, f"{name}: a type without a price in the table of {table.date}; not counted"
                          ) for name in unpriced]  # fmt: skip
    return found + _endpoint(config, table)


def _endpoint(config: PipelineConfig, table: Catalog) -> list[Finding]:
    """What a deployed version costs beside the run, for as long as the endpoint is there."""
    registry = config.vertex.registry
    if registry.endpoint is None:
        return []
    machine = table.server(registry.machine_type)
    if machine is None:
        return [not_checked(COST, f"endpoint {registry.endpoint}: {registry.machine_type} has no price in the table")]
    family = table.families[machine.family]
    hour = (machine.vcpus * family.vcpu_usd + machine.gb * family.gb_usd) * table.prices.training_factor
    return [
        note(
            COST,
            f"besides, the endpoint {registry.endpoint}: ${hour * registry.min_replicas:,.2f} an hour for the "
            "champion, and as much for a candidate beside it, idle too, as long as they are deployed",
        )
    ]


def _nodes(config: PipelineConfig, table: Catalog) -> Cost:
    total = Cost(0, 0)
    waits = config.vertex.pretraining.machine_type is not None
    for kind, count in needs.nodes(config).items():
        hour = _node_hour(getattr(config.vertex.nodes, kind), table)
        low, high = _pretraining_hours(config) if waits and kind == "pretrain" else table.hours[kind]
        total += Cost(count * low * hour, count * high * hour)
    return total


def _node_hour(node: NodeConfig, table: Catalog) -> float:
    """Vertex AI chooses the machine: taken as the vCPUs and GB asked for, of the GPU's family or of e2."""
    gpu = table.gpus[node.accelerator] if node.accelerator else None
    family = table.families[gpu.family if gpu else "e2"]
    hour = (
        node.cpu * family.vcpu_usd + node.memory_gb * family.gb_usd + (node.accelerator_count * gpu.usd if gpu else 0)
    )
    return hour * table.prices.training_factor


def _machines(config: PipelineConfig, table: Catalog) -> Cost | None:
    pretraining = config.vertex.pretraining
    if pretraining.machine_type is None:
        return Cost(0, 0)
    found = needs.tpu(pretraining, table)
    if found:
        hour = found[2].usd * (found[1].spot if pretraining.spot else 1)
    else:
        machine = table.machine(pretraining.machine_type)
        if machine is None:
            return None
        family = table.families[machine.family]
        share = (family.spot or 1) if pretraining.spot else 1
        hour = (machine.vcpus * family.vcpu_usd + machine.gb * family.gb_usd) * share
        if pretraining.accelerator:
            gpu = table.gpus[pretraining.accelerator]
            hour += pretraining.accelerator_count * gpu.usd * ((gpu.spot or 1) if pretraining.spot else 1)
    hour += pretraining.boot_disk_gb * table.prices.ssd_gb_month_usd / _HOURS_A_MONTH
    hour *= pretraining.machines * table.prices.training_factor * needs.nodes(config)["pretrain"]
    low, high = _pretraining_hours(config)
    return Cost(low * hour, high * hour)


def _dataflow(config: PipelineConfig, table: Catalog) -> Cost | None:
    workers, prices = config.beam.dataflow, table.prices.dataflow
    vcpus = needs.vcpus_of(workers.machine_type)
    if vcpus is None:
        return None
    machine = table.machine(workers.machine_type)
    gb = machine.gb if machine else vcpus * _ADDED_GB_A_VCPU
    hour = vcpus * prices.vcpu_usd + gb * prices.gb_usd + workers.disk_gb * prices.disk_gb_usd
    low, high = (sum(count * table.hours[kind][end] for kind, count in needs.DATAFLOW_JOBS.items()) for end in (0, 1))
    return Cost(low * hour, high * hour * workers.max_workers)


def _pretraining_hours(config: PipelineConfig) -> tuple[float, float]:
    timeout_h = config.vertex.pretraining.timeout_h
    return _SHORTEST_SHARE * timeout_h, timeout_h


def _assumed(config: PipelineConfig, table: Catalog) -> str:
    hours = {kind: f"{low:g} to {high:g} h" for kind, (low, high) in table.hours.items()}
    if config.vertex.pretraining.machine_type is not None:
        low, high = _pretraining_hours(config)
        hours["pretrain"] = f"{low:g} h to timeout_h, {high:g} h"
    words = ", ".join(f"{kind} {span}" for kind, span in hours.items())
    if config.beam.runner == "dataflow":
        words += f"; Dataflow with 1 to {config.beam.dataflow.max_workers} workers"
    return f"a node of each kind takes {words}{_without_spot_price(config, table)}"


def _without_spot_price(config: PipelineConfig, table: Catalog) -> str:
    pretraining = config.vertex.pretraining
    machine = table.machine(pretraining.machine_type or "")
    shares = {f"{machine.family} machines": table.families[machine.family].spot} if machine else {}
    if pretraining.accelerator in table.gpus:
        shares[pretraining.accelerator] = table.gpus[pretraining.accelerator].spot
    unknown = [name for name, share in shares.items() if share is None]
    return (
        f"; {', '.join(unknown)} at the full price, for want of that of spot" if pretraining.spot and unknown else ""
    )


def _range(cost: Cost) -> str:
    return f"${cost.low:,.2f} to ${cost.high:,.2f}"
