"""Images for the tests: a slice of the embedded sample, as people would keep it on disk."""

import csv
import gc
import io
import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_SAMPLE = Path(__file__).resolve().parent.parent / "data" / "cifar10_sample"


def pytest_configure() -> None:
    """Garbage was looked for, over and over, in what the imports of TensorFlow and TFX made: a tenth of the time."""
    gc.set_threshold(100_000, 10, 10)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: begun last, one of them would hold a worker up while the other had nothing to do."""
    items.sort(key=lambda item: "e2e" not in item.path.parts)


@pytest.fixture(autouse=True)
def _tensorflows_switches_stay() -> Iterator[None]:
    """Command lines set them; what TensorFlow is in a later test's process must not depend on the tests before it."""
    before = {name: value for name, value in os.environ.items() if name.startswith("TF_")}
    yield
    for name in [name for name in os.environ if name.startswith("TF_")]:
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="session")
def sample_pngs() -> dict[str, list[bytes]]:
    """Encoded PNGs by class: 40 each of cat, ship and frog, real images of the sample's test split."""
    with (_SAMPLE / "labels.csv").open() as file:
        classes = {row["key"]: row["label"] for row in csv.DictReader(file)}
    taken: Counter[str] = Counter()
    found: dict[str, list[bytes]] = {"cat": [], "ship": [], "frog": []}
    with tarfile.open(_SAMPLE / "test.tar") as archive:
        for member in archive:
            label = classes[Path(member.name).stem]
            if label in found and taken[label] < 40:
                taken[label] += 1
                found[label].append(archive.extractfile(member).read())
    return found


@pytest.fixture(scope="session")
def class_folders(sample_pngs, tmp_path_factory) -> Path:
    """The same images as class-named folders: 16 of each class, of half the size of the unlabeled ones."""
    root = tmp_path_factory.mktemp("labeled")
    for label, pngs in sample_pngs.items():
        (root / label).mkdir()
        for number, png in enumerate(pngs[:16]):
            Image.open(io.BytesIO(png)).resize((16, 16)).save(root / label / f"{number:03}.png")
    return root


@pytest.fixture(scope="session")
def flat_folder(sample_pngs, tmp_path_factory) -> Path:
    """Images without labels: the next 24 of each class, in one folder."""
    root = tmp_path_factory.mktemp("unlabeled")
    for label, pngs in sample_pngs.items():
        for number, png in enumerate(pngs[16:]):
            (root / f"{label[0]}{number:03}.png").write_bytes(png)
    return root


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """The machine's own Chromium, where there is one."""
    import browsing  # brings a driver that few tests need

    yield from browsing.launched()
