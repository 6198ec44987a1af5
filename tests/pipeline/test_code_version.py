import shutil
from pathlib import Path

import pytest

from pipeline import code_version as subject

_ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """The packages in a folder where a test may edit them."""
    for package in ("trainer", "components"):
        shutil.copytree(_ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(subject, "_root", lambda: tmp_path)
    return tmp_path


def edit(file: Path) -> None:
    file.write_text(file.read_text() + "\n# edited\n")


@pytest.mark.parametrize(
    ("module", "file", "changes"),
    [
        ("components.training.pretrain", "trainer/losses.py", True),
        ("components.training.classifier", "trainer/augment.py", True),
        ("components.transform.preprocessing", "trainer/images.py", True),
        ("components.transform.preprocessing", "trainer/losses.py", False),
        ("components.label_fraction_split.executor", "trainer/losses.py", False),
        ("components.image_example_gen.executor", "components/push/component.py", False),
        ("components.report.executor", "components/report/template.html.j2", True),
    ],
)
def test_edit_changes_the_version_of_what_depends_on_it(copied, module, file, changes):
    before = subject.code_version(module)
    edit(copied / file)
    assert (subject.code_version(module) != before) is changes


def test_version_is_stable():
    version = subject.code_version("components.training.pretrain")
    assert version == subject.code_version("components.training.pretrain")
    assert len(version) == 16
