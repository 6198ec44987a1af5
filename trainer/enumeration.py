"""Lists in messages: the first few, and how many more."""

from collections.abc import Sequence

_SHOWN = 5


def first_few(names: Sequence[str], shown: int = _SHOWN) -> str:
    """Joins names for a sentence, however many there are: 'a, b and 9998 more'."""
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")


def first_few_quoted(names: Sequence[str]) -> str:
    """The same of names that anybody may have given: "'a', 'b\\n' and 9998 more"."""
    return first_few([repr(name) for name in names])
