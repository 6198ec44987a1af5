from pathlib import Path

from pipeline import reference
from pipeline.config import PipelineConfig

_PAGE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"


def leaves(settings: dict, prefix: str = "") -> set[str]:
    found = set()
    for name, value in settings.items():
        is_section = isinstance(value, dict) and value  # an empty one is a mapping that the user fills
        found |= leaves(value, f"{prefix}{name}.") if is_section else {prefix + name}
    return found


def test_reference_lists_every_field_with_meaning():
    rows = list(reference.fields())
    assert {row.path for row in rows} == leaves(PipelineConfig().model_dump(mode="json"))
    assert all(row.meaning and row.allowed for row in rows)


def test_reference_shows_the_default_at_its_place():
    defaults = {row.path: row.default for row in reference.fields()}
    assert defaults["supervised.optimizer.learning_rate"] == "0.01"
    assert defaults["finetune.optimizer.learning_rate"] == "0.001"
    assert defaults["data.labeled_manifest"] == "null"


def test_reference_page_in_the_documentation_is_up_to_date():
    assert _PAGE.read_text(encoding="utf-8") == reference.markdown()
