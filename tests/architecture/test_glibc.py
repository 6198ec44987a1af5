"""The glibc that `infra/stack.sh` asks for is the one that the wheels of the lock file need."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli
from packaging.markers import Marker
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

ROOT = Path(__file__).parents[2]
OLD_NAMES = {"manylinux1": "manylinux_2_5", "manylinux2010": "manylinux_2_12", "manylinux2014": "manylinux_2_17"}


def accepted(python: tuple[int, int]) -> Iterator[tuple[str, str]]:
    """Interpreter and ABI of the wheels that this Python takes."""
    yield from ((tag.interpreter, tag.abi) for tag in cpython_tags(python, platforms=["any"]))
    of_its_own = f"cp{python[0]}{python[1]}"
    yield from ((tag.interpreter, tag.abi) for tag in compatible_tags(python, of_its_own, platforms=["any"]))


def glibc(tag: Tag) -> tuple[int, int] | None:
    """What a wheel's tag asks of a Linux on x86_64, (0, 0) if nothing; None if the wheel is for another platform."""
    name = tag.platform.removesuffix("_x86_64")
    found = re.fullmatch(r"manylinux_(\d+)_(\d+)|any", OLD_NAMES.get(name, name))
    return found and (int(found[1] or 0), int(found[2] or 0))


def least(package: dict, takes: set[tuple[str, str]]) -> tuple[int, int]:
    """What that wheel of a package asks for which asks for least; (0, 0) where it has none, and so only a source."""
    names = [wheel["url"].split("/")[-1] for wheel in package.get("wheels", ())]
    tags = [tag for name in names for tag in parse_wheel_filename(name)[3] if (tag.interpreter, tag.abi) in takes]
    return min((asked for asked in map(glibc, tags) if asked is not None), default=(0, 0))


@pytest.mark.parametrize("minor", [10, 11, 12, 13])
def test_glibc_that_is_asked_for_is_the_most_that_a_locked_package_needs(minor):
    here, takes = {"python_full_version": f"3.{minor}.0"}, set(accepted((3, minor)))
    needed = [
        least(package, takes)
        for package in tomli.loads((ROOT / "uv.lock").read_text())["package"]
        if "resolution-markers" not in package
        or any(Marker(fork).evaluate(here) for fork in package["resolution-markers"])
    ]
    stack = "older" if minor == 10 else "newer"
    [said] = re.findall(rf"^{stack}_glibc=(\d+)\.(\d+)$", (ROOT / "infra" / "stack.sh").read_text(), re.MULTILINE)
    assert max(needed) == tuple(map(int, said))
