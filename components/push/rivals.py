"""On an object store nothing keeps others out: who finds that another push came first decides again."""

import contextlib
import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

_MOST_DECISIONS = 5

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class OvertakenError(RuntimeError):
    """The pointer or the history is no longer what a decision was made on."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"A push or a rollback changes what it has read; others changed {path} each time before it could. "
            "Repeat it when they have ended."
        )


def again_if_overtaken(decide: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """Lets a function that was overtaken begin again, with what is there by then; a few times."""

    @functools.wraps(decide)
    def call(*arguments: _Parameters.args, **named: _Parameters.kwargs) -> _Result:
        for _ in range(_MOST_DECISIONS - 1):
            with contextlib.suppress(OvertakenError):
                return decide(*arguments, **named)
        return decide(*arguments, **named)

    return call
