"""Conditions as TFX writes them: their values, and what is none."""

import pytest

from pipeline.runners.rehearsal.conditions import Condition

_MODEL = {"uri": "gs://b/m", "metadata": {"blessed": 1, "name": "best", "share": 0.5}}
_M = "inputs.artifacts['model'].artifacts[0]"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"({_M}.metadata['blessed'] == 1.0)", True),
        (f"({_M}.metadata['blessed'] < 1.0)", False),
        (f"({_M}.metadata['share'] > -2.5e-1)", True),
        (f"!(({_M}.metadata['name'] == 'best'))", False),
        (f"({_M}.uri == 'gs://b/m')", True),
        (f"(({_M}.uri + '/x') == 'gs://b/m/x')", True),
        ("(1.0 == 2.0) || (1.0 == 1.0) && (2.0 == 2.0)", True),
        ("((1.0 == 1.0) || (1.0 == 2.0)) && (2.0 == 1.0)", False),
        ("(1.0 == 1.0) || (1.0 == 1.0) && (1.0 == 2.0)", True),
    ],
)
def test_condition_holds_as_written(text, expected):
    assert Condition(text).holds({"model": [_MODEL]}) is expected


def test_inputs_are_those_that_it_looks_at():
    assert Condition(f"({_M}.uri == 'a') && (inputs.artifacts['_x.y'].artifacts[0].uri == 'b')").inputs == {
        "model",
        "_x.y",
    }


@pytest.mark.parametrize("text", ["(1.0 == 1.0", "1.0 == 1.0)", "1.0 ~ 2.0"])
def test_what_is_not_cel_is_refused_when_it_is_read(text):
    with pytest.raises(ValueError, match="is not CEL"):
        Condition(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{_M}.metadata['blessed'] == '1'", "no matching overload"),
        (f"{_M}.metadata['missing'] == 1.0", "no such key"),
        (f"{_M}.type == 'a'", "no such member in mapping: 'type'"),
        ("inputs.artifacts['model'].artifacts[1].uri == 'a'", "invalid_argument"),
        ("inputs.artifacts['other'].artifacts[0].uri == 'a'", "no matching overload"),
        (f"{_M}.metadata['blessed']", "neither true nor false"),
    ],
)
def test_condition_that_cannot_be_decided_is_an_error_that_names_it(text, words):
    with pytest.raises(ValueError, match=words) as refused:
        Condition(text).holds({"model": [_MODEL]})
    assert text in str(refused.value)
