"""What a function does, counted instead of timed: a count is the same on any machine, however full.

Counted are the steps of our own code (each line that is begun, each turn of a loop or a comprehension, each call),
how often the texts that it is given are compared and looked up, and the rows that it hands to Arrow. What Python's
sort and Arrow's kernels do within one call is theirs, and not counted.
"""

import collections
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

_OURS = tuple(str(Path(__file__).resolve().parents[2] / folder) for folder in ("components", "trainer"))


class Counts(collections.Counter):
    """By kind: "steps", "comparisons", "look-ups", "rows"."""

    def text(self) -> type[str]:
        """Strings that count how often they are compared and looked up."""
        counts = self

        class Text(str):
            __slots__ = ()

            def __eq__(self, other: object) -> bool:
                counts["comparisons"] += 1
                return str.__eq__(self, other)

            def __lt__(self, other: str) -> bool:
                counts["comparisons"] += 1
                return str.__lt__(self, other)

            def __hash__(self) -> int:
                counts["look-ups"] += 1
                return str.__hash__(self)

        return Text

    def kernels(self, module: ModuleType) -> "Kernels":
        """The same functions of Arrow, which count the rows that they are given."""
        return Kernels(module, self)

    def of(self, act: Callable[[], object]) -> "Counts":
        """Calls a function, and returns what was counted meanwhile."""
        self.clear()
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            act()
        finally:
            sys.settrace(before)
        return Counts(self)

    def _enter(self, frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        if not frame.f_code.co_filename.startswith(_OURS):
            return None
        self["steps"] += 1
        return self._step

    def _step(self, frame: FrameType, event: str, _: Any) -> Callable[..., Any]:
        self["steps"] += event == "line"
        return self._step


class Kernels:
    """Stands for `pyarrow.compute`."""

    def __init__(self, module: ModuleType, counts: Counts) -> None:
        self._module, self._counts = module, counts

    def __getattr__(self, name: str) -> Callable[..., Any]:
        kernel = getattr(self._module, name)

        def call(*arguments: Any, **named: Any) -> Any:
            for value in (*arguments, *named.values()):
                self._counts["rows"] += len(value) if hasattr(value, "__len__") and not isinstance(value, str) else 0
            return kernel(*arguments, **named)

        return call
