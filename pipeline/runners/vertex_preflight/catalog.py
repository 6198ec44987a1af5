"""The table of regions, machines, accelerators and prices that is part of this package, and its date."""

import datetime
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml
from pydantic import Field

from trainer.config import Count, Positive, Settings

_FILE = Path(__file__).with_name("catalog.yaml")
_NAME = re.compile(r"(?P<family>[a-z0-9]+)-(?P<shape>[a-z]+)-(?P<vcpus>\d+)")


class _DataflowPrices(Settings):
    vcpu_usd: Positive
    gb_usd: Positive
    disk_gb_usd: Positive


class _Prices(Settings):
    region: str
    training_factor: Positive
    elsewhere_factor: Positive
    pipeline_run_usd: Positive
    ssd_gb_month_usd: Positive
    dataflow: _DataflowPrices


class _Shape(Settings):
    gb: Positive
    vcpus: list[Count]


class Family(Settings):
    """Prices of an hour of one vCPU and one GB, and the beginning of its quota's name."""

    vcpu_usd: Positive
    gb_usd: Positive
    spot: Positive | None
    quota: str
    shapes: dict[str, _Shape]


class _SmallMachine(Settings):
    family: str
    vcpus: Count
    gb: Positive


class _FixedMachine(Settings):
    family: str
    vcpus: Count
    gb: Positive
    accelerators: Count


class Gpu(Settings):
    """A GPU: where it is, on which machines, what an hour of one costs; `spot` is a share of the price."""

    family: str
    usd: Positive
    spot: Positive | None
    quota: str
    most_vcpus: dict[int, Count] = Field(min_length=1)
    regions: list[str]


class TpuHost(Settings):
    """One host of a TPU: units of its quota, and the price of an hour."""

    units: Count
    usd: Positive


class Tpu(Settings):
    """A generation of TPUs; hosts by topology, where it has several."""

    quota: str
    hosts: dict[str, TpuHost]
    spot: Positive
    regions: list[str]
    unsure: list[str]


class Catalog(Settings):
    """The whole table."""

    date: datetime.date
    regions: list[str]
    prices: _Prices
    families: dict[str, Family]
    machines: dict[str, _FixedMachine]
    servers: dict[str, _SmallMachine]
    gpus: dict[str, Gpu]
    tpus: dict[str, Tpu]
    hours: dict[str, list[Positive]]

    def machine(self, name: str) -> "Machine | None":
        """The machine of this type; None: it is not in the table."""
        fixed = self.machines.get(name)
        if fixed:
            return Machine(fixed.family, fixed.vcpus, fixed.gb, fixed.accelerators)
        found = _NAME.fullmatch(name)
        family = self.families.get(found["family"]) if found else None
        shape = family.shapes.get(found["shape"]) if family else None
        vcpus = int(found["vcpus"]) if shape else 0
        return Machine(found["family"], vcpus, vcpus * shape.gb, None) if shape and vcpus in shape.vcpus else None

    @property
    def largest(self) -> tuple[int, float]:
        """Most vCPUs and most GB of a machine that is not made for an accelerator."""
        shapes = [shape for family in self.families.values() for shape in family.shapes.values()]
        most = [max(shape.vcpus) for shape in shapes]
        return max(most), max(vcpus * shape.gb for vcpus, shape in zip(most, shapes, strict=True))

    def alike(self, name: str) -> list[str]:
        """The machines of the same family and shape; none: the table does not know these at all."""
        kind = name.rpartition("-")[0]
        family, _, shape = kind.partition("-")
        known = self.families[family].shapes.get(shape) if family in self.families else None
        listed = [f"{kind}-{vcpus}" for vcpus in known.vcpus] if known else []
        return listed or [one for one in self.machines if one.rpartition("-")[0] == kind]

    def server(self, name: str) -> "Machine | None":
        """The machine of this type for a model that is served, which may be smaller than those that train."""
        small = self.servers.get(name)
        return Machine(small.family, small.vcpus, small.gb, None) if small else self.machine(name)


@dataclass(frozen=True)
class Machine:
    """A type of machine; `accelerators`: how many it has by its name, None: they are added to it."""

    family: str
    vcpus: int
    gb: float
    accelerators: int | None


@cache
def read() -> Catalog:
    """The table, read once."""
    return Catalog.model_validate(yaml.safe_load(_FILE.read_text(encoding="utf-8")))
