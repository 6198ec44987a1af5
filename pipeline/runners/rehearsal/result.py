"""How a task of a rehearsal went."""

import datetime
import enum
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.runners.rehearsal.exchange import Made


class State(enum.Enum):
    """How a task ended, by Vertex AI's names where it has one."""

    SUCCEEDED = "SUCCEEDED"
    CACHED = "SKIPPED"
    NOT_TRIGGERED = "NOT_TRIGGERED"
    FAILED = "FAILED"
    NOT_STARTED = "CANCELLED"


_GOOD = (State.SUCCEEDED, State.CACHED)


@dataclass(frozen=True)
class Result:
    """How a task went.

    Attributes:
        state: how it ended.
        made: its outputs.
        seconds: from its start to its end, waits between retries included.
        message: why it failed, with the last lines that it wrote.
        began: when it did; None if it did not.
        left: folder of a failed execution, with what it had written by then.
    """

    state: State
    made: Made = field(default_factory=Made)
    seconds: float = 0.0
    message: str = ""
    began: datetime.datetime | None = None
    left: Path | None = None

    @property
    def good(self) -> bool:
        """Whether it has outputs."""
        return self.state in _GOOD
