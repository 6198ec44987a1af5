import pytest
from tfx.types import artifact_utils

from components.label_fraction_split.selection import fraction_split_name, parse_fractions


@pytest.mark.parametrize(
    ("fraction", "name"),
    [
        (0.01, "fraction-1pct"),
        (0.1, "fraction-10pct"),
        (0.005, "fraction-0_5pct"),
        (1.0, "fraction-100pct"),
        (1, "fraction-100pct"),
        (1e-05, "fraction-0_001pct"),
    ],
)
def test_split_name_is_the_percentage(fraction, name):
    assert fraction_split_name(fraction) == name
    assert artifact_utils.encode_split_names([name]) == f'["{name}"]'  # which refuses what TFX takes for no name


def test_fractions_are_read_and_sorted():
    assert parse_fractions("[1, 0.01, 0.1]") == [0.01, 0.1, 1.0]


@pytest.mark.parametrize(
    "text", ["", "0.1", "[]", "[0]", "[-0.1]", "[1.5]", "[true]", '["0.1"]', "[NaN]", "[0.1, 0.1]", "[1, 1.0]"]
)
def test_malformed_fractions_are_refused_with_the_rule(text):
    with pytest.raises(ValueError, match="label fractions are a JSON list"):
        parse_fractions(text)
