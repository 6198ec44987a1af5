"""Ten thousand classes, as a folder for each image would make them: whatever lists classes stays short and quick."""

import io
import tarfile
import time

import pytest
from PIL import Image

from components.drift import findings
from components.drift.settings import DriftConfig
from components.image_example_gen import archives
from components.label_fraction_split.inventory import ClassKeys, ordered_classes
from trainer import folders
from trainer.label_fractions import select

CLASSES = tuple(f"class {number:05}" for number in range(10_000))
_MOST_CPU_S = 20  # what compares all with all takes much longer


@pytest.fixture
def png():
    buffer = io.BytesIO()
    Image.new("RGB", (1, 1)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def _quick():
    started = time.process_time()
    yield
    assert time.process_time() - started < _MOST_CPU_S


def test_each_class_has_an_image_in_every_fraction():
    inventory = [
        ClassKeys("train", name, index, [f"{name}/{n}" for n in range(3)]) for index, name in enumerate(CLASSES)
    ]
    assert ordered_classes(inventory) == list(CLASSES)
    chosen = select({entry.label: entry.keys for entry in inventory}, 0.01, seed=1)
    assert {len(keys) for keys in chosen.values()} == {1} and len(chosen) == len(CLASSES)


def test_archive_gives_each_image_its_class(png):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for number, name in enumerate(CLASSES):
            for member, content in ((f"{number}.png", png), (f"{number}.cls", name.encode())):
                info = tarfile.TarInfo(member)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    open_file = lambda: io.BytesIO(buffer.getvalue())  # noqa: E731 - the reader opens it twice
    items = archives.read_tar(open_file, "a.tar", max_bytes=1000, want_classes=True)
    assert [item.label for item in items] == list(CLASSES)


def test_folders_are_the_trainers_classes(monkeypatch):
    """Without the folders themselves, which take a disk longer than all else."""
    monkeypatch.setattr(folders, "_image_names", lambda _path: [f"{name}/a.png" for name in reversed(CLASSES)])
    monkeypatch.setattr(folders, "_measured", lambda _path: ((1, 1), 0))
    files = folders.open_folder("images")
    assert files.classes == CLASSES and files.labels == tuple(range(len(CLASSES)))


def test_drift_names_a_few_of_the_new_ones():
    [found] = findings.find(DriftConfig(), None, [], dict.fromkeys(CLASSES, 1))
    assert len(found.words) < 300 and "and 9995 more" in found.words
