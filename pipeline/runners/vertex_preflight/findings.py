"""What a check has found, and how a person reads it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from rich.table import Table
from rich.text import Text


class Severity(Enum):
    """How a finding stands; ERROR: the run would fail."""

    ERROR = "error"
    WARNING = "warning"
    NOT_CHECKED = "not checked"
    NOTE = "note"
    OK = "ok"


_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.OK: "green"}


# The subject of the rough cost, which is shown before each submission.
COST = "rough cost"


@dataclass(frozen=True)
class Finding:
    """One sentence about one subject.

    Attributes:
        severity: how it stands.
        subject: a field of the configuration, or what it is about.
        words: what was found, with the remedy where there is one.
        of_configuration: whether the configuration alone says so, whatever Google Cloud has.
    """

    severity: Severity
    subject: str
    words: str
    of_configuration: bool = False


def error(subject: str, words: str) -> Finding:
    """The run would fail."""
    return Finding(Severity.ERROR, subject, words)


def warning(subject: str, words: str) -> Finding:
    """The run may fail, or not be what was meant."""
    return Finding(Severity.WARNING, subject, words)


def not_checked(subject: str, words: str) -> Finding:
    """Nobody looked, and why."""
    return Finding(Severity.NOT_CHECKED, subject, words)


def note(subject: str, words: str) -> Finding:
    """A figure or a list to compare with what one has."""
    return Finding(Severity.NOTE, subject, words)


def ok(subject: str, words: str) -> Finding:
    """Looked at, and right."""
    return Finding(Severity.OK, subject, words)


def has_errors(findings: Sequence[Finding]) -> bool:
    """Whether one of them stops the run."""
    return any(finding.severity is Severity.ERROR for finding in findings)


def has_mistakes(findings: Sequence[Finding]) -> bool:
    """Whether one of those that stop the run is of the configuration alone."""
    return any(finding.severity is Severity.ERROR and finding.of_configuration for finding in findings)


def remarkable(findings: Sequence[Finding]) -> list[Finding]:
    """Those that a person should see before a run starts: what is or may be wrong, and the cost."""
    kinds = (Severity.ERROR, Severity.WARNING, Severity.NOT_CHECKED)
    return [finding for finding in findings if finding.severity in kinds or finding.subject == COST]


def table(findings: Sequence[Finding]) -> Table:
    """All findings, the grave ones first."""
    order = list(Severity)
    drawn = Table(title="preflight", title_justify="left")
    for column in ("", "of", "finding"):
        drawn.add_column(column, overflow="fold")
    for finding in sorted(findings, key=lambda item: order.index(item.severity)):
        style = _STYLES.get(finding.severity, "")
        # As text: what stands in brackets is a value of the configuration, not markup.
        drawn.add_row(Text(finding.severity.value, style=style), Text(finding.subject), Text(finding.words))
    return drawn
