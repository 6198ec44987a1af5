"""How long the readers are fuzzed, and with what: bytes that were damaged, and JSON of which a value is another."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import hypothesis
from hypothesis import strategies as st

CHAOS_PROFILE = "chaos"
# What JSON allows and few expect; it stands where a string of this name is written.
_PLACE = "@here"
_ODD_JSON = ("[" * 100_000, "1" * 5000, "1e999", "NaN", '"\\ud800"', '{"a": 1, "a": 2}', "\x00", "-0", "9" * 20)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
# Of bytes, and of files.
_CHANGES = st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), max_size=4)


def fuzz(*, short: int = 150, long: int = 5000) -> hypothesis.settings:
    """The same few examples each time; with `--hypothesis-profile chaos` many, by `--hypothesis-seed`."""
    is_long = hypothesis.settings.get_current_profile_name() == CHAOS_PROFILE
    return hypothesis.settings(
        max_examples=long if is_long else short,
        derandomize=not is_long,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """Bytes of which some are others, and some of the end are missing."""

    def damage(changes: list[tuple[int, int]], cut: float) -> bytes:
        data = bytearray(whole)
        for place, change in changes:
            data[place % len(data)] ^= change
        return bytes(data[: round(len(data) * (1 - cut / 4))])

    return st.builds(damage, _CHANGES, st.floats(0, 1))


@st.composite
def altered(draw: st.DrawFn, document: dict[str, Any]) -> bytes:
    """A JSON object in one line, of which one value at any depth is gone or another."""
    document = copy.deepcopy(document)
    holder, name = draw(st.sampled_from(list(_places(document))))
    odd = draw(st.none() | st.sampled_from(_ODD_JSON))
    if odd is not None:
        holder[name] = _PLACE
    elif draw(st.booleans()):
        holder[name] = draw(_JSON)
    else:
        del holder[name]
    return json.dumps(document).replace(json.dumps(_PLACE), odd or "").encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Where a value stands: the list or object that holds it, and its position or name there."""
    for name in value if isinstance(value, dict) else range(len(value) if isinstance(value, list) else 0):
        yield value, name
        yield from _places(value[name])
