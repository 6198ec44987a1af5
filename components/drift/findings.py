"""What the tests found, in words, and whether the run goes on."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from components.drift.settings import DriftConfig, Policy
from components.drift.two_sample import KernelTest, Shift
from trainer.enumeration import first_few


@dataclasses.dataclass(frozen=True)
class Finding:
    """One kind of drift that was found, in words, and what it does to the run."""

    kind: str
    words: str
    policy: Policy


class DriftedError(ValueError):
    """New images have drifted so that the run is to stop.

    Attributes:
      told: what `drift.json` says; the file itself goes with the outputs of a node that failed.
      pictures: the most unusual images by their file names, which go with them.
    """

    def __init__(self, message: str, told: Mapping[str, Any], pictures: Mapping[str, bytes]) -> None:
        super().__init__(message)
        self.told, self.pictures = told, pictures


def find(
    config: DriftConfig,
    kernel: KernelTest | None,
    statistics: Sequence[Shift],
    new_classes: Mapping[str, int],
    *,
    not_compared: str | None = None,
) -> list[Finding]:
    """Lists what is drift by the configuration; what it ignores is listed as well, and does nothing.

    That something was not compared is a finding too, of which a run is warned: no news would pass for good news. It
    never stops one, or there would be no first run.

    Args:
      config: with the rate of false alarms, of which embeddings and statistics get half each.
      kernel: of the embeddings; None where they were not compared.
      statistics: with p-values adjusted for their number.
      new_classes: labels that were not known, with their counts.
      not_compared: why there is no `kernel`, or neither that nor statistics; None: all was compared.
    """
    rate = config.false_alarm_rate / 2
    found = []
    if not_compared:
        what = "images were not compared by embeddings" if statistics else "no images were compared"
        found.append(Finding("not compared", f"{what}: {not_compared}", "warn"))
    if kernel is not None and kernel.p_value <= rate:
        words = (
            f"the champion sees other images: MMD² {kernel.mmd2:.4f}, where {kernel.expected:.4f} is usual without a "
            f"difference (p = {kernel.p_value:.2g}, an alarm from {rate:g} down)"
        )
        found.append(Finding("embeddings", words, config.embeddings))
    shifted = sorted((shift for shift in statistics if shift.p_value <= rate), key=lambda shift: -shift.distance)
    if shifted:
        listed = "; ".join(
            f"{shift.name} {shift.new_median:.4g} where the window has {shift.window_median:.4g}" for shift in shifted
        )
        found.append(Finding("statistics", f"other image statistics (medians): {listed}", config.statistics))
    if new_classes:
        named = first_few([f"{name!r} ({count})" for name, count in new_classes.items()])
        words = f"labels that the champion does not know: {named}"
        found.append(Finding("new classes", words, config.new_classes))
    return found


def stops(findings: Sequence[Finding]) -> str | None:
    """The message that ends the run, if any finding is to."""
    words = [finding.words for finding in findings if finding.policy == "stop"]
    if not words:
        return None
    return (
        f"The new images have drifted: {'. '.join(words)}. If they are meant to, let it pass once by "
        "drift.embeddings=warn, drift.statistics=warn or drift.new_classes=warn; if not, take the "
        "delivery out of the source and its span out of retrain.store."
    )
