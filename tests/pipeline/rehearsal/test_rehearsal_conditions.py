"""The part of CEL that TFX writes: its values, and what is no condition."""

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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("(1.0 == 1.0", "ends too early"),
        ("1.0 == 1.0)", "after its end"),
        ("size(x) == 1.0", "where a value is due"),
        (f"{_M}.type == 'a'", "there are uri and metadata"),
        ("1.0 ~ 2.0", "cannot be read"),
    ],
)
def test_what_tfx_never_writes_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        Condition(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{_M}.metadata['blessed'] == '1'", "of two types"),
        (f"{_M}.metadata['missing'] == 1.0", "which the artifact 'model' lacks"),
        ("inputs.artifacts['model'].artifacts[1].uri == 'a'", "which there isn't"),
        (f"{_M}.metadata['blessed']", "for a truth value"),
        ("(1.0 == 1.0) || 2.0", "for a truth value"),
    ],
)
def test_value_that_cel_would_refuse_is_an_error(text, words):
    with pytest.raises(ValueError, match=words):
        Condition(text).holds({"model": [_MODEL]})
