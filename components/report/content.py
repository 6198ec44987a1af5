"""What the report says, as plain frozen values: no files, no plots, no HTML."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from components.report.candidate import candidate_of

ARM_NAMES = {
    "finetune": "Fine-tuned",
    "distill": "Distilled",
    "supervised": "From scratch",
    "linear": "Linear probe",
    "knn": "kNN",
    "random": "Random encoder",
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One accuracy: an arm trained on a fraction of the labels, scored on the whole test set."""

    arm: str
    label_fraction: float
    n_labels: int
    top1: float
    top5: float | None
    n_test: int
    seed: int
    settings: Mapping[str, object]

    @property
    def arm_name(self) -> str:
        """The arm as a reader calls it."""
        return ARM_NAMES.get(self.arm, self.arm)

    @property
    def name(self) -> str:
        """The arm and its fraction, e.g. 'Fine-tuned, 10%'."""
        return f"{self.arm_name}, {percent(self.label_fraction)}"


@dataclass(frozen=True, kw_only=True)
class Run:
    """A trained classifier: its row, its curves by column, its predictions on the test set.

    `probabilities` is float32 [n, C] and `label_index` int64 [n].
    """

    row: Row
    history: Mapping[str, np.ndarray]
    probabilities: np.ndarray
    label_index: np.ndarray
    classes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Views:
    """Augmented pairs, each uint8 [n, height, width, 3]."""

    original: np.ndarray
    view_a: np.ndarray
    view_b: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """The test set in the frozen encoder's eyes.

    `h` float32 [n, D], `label_index` int64 [n], `keys` n strings, `images` uint8 [n, height, width, 3].
    """

    h: np.ndarray
    label_index: np.ndarray
    keys: tuple[str, ...]
    images: np.ndarray
    classes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SourceCounts:
    """How many images of a source were read, and what became of them."""

    source: str
    read: int
    kept: int
    duplicate: int
    rejected: int


@dataclass(frozen=True, kw_only=True)
class Channels:
    """Red, green and blue over the pretraining images, in [0, 1]: mean and standard deviation, three numbers each."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Reject:
    """An input that could not be used, and why."""

    source: str
    uri: str
    reason: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class LabelCounts:
    """Labels drawn for each fraction: {fraction: {class: n}}, out of n_examples labelled images."""

    fractions: Mapping[float, Mapping[str, int]]
    classes: tuple[str, ...]
    n_examples: int


@dataclass(frozen=True, kw_only=True)
class ClassAccuracy:
    """How often images of one class are recognised; n is None where the evaluation does not tell."""

    name: str
    accuracy: float
    n: int | None


@dataclass(frozen=True, kw_only=True)
class Compared:
    """How many test images, and training images of each source, were held against each other by content."""

    test: int
    training: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A share, or a difference of shares, with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Match:
    """Candidate and champion on the same test images: accuracies, difference, and how often only one is right."""

    candidate: Estimate
    champion: Estimate
    difference: Estimate
    confidence: float
    n_images: int
    won: int
    lost: int


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether the candidate was good enough, and where it went.

    `match` is None where there was no champion to meet, and `test_set_changed` where nobody knows.
    """

    blessed: bool
    pushed: str | None
    reason: str
    version: str
    champion: Mapping[str, object]
    match: Match | None = None
    test_set_changed: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Node:
    """A pipeline node that has finished: its time, and the nodes that fed it."""

    name: str
    seconds: float
    cached: bool
    inputs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SpanCounts:
    """A span of the window: what became of its delivery, and how many of its images were pretrained on."""

    span: int
    made: str
    read: int
    kept: int
    duplicate: int
    rejected: int
    images: int


@dataclass(frozen=True, kw_only=True)
class Spans:
    """The window of a source that grows, and what was noticed when it was laid out.

    Attributes:
      window: its spans, the oldest first.
      decision: why it was trained on, in words.
      notes: of files that changed, vanished and the like.
      n_near: new images whose perceptual hash is near to that of an earlier one; None: they were not looked for.
      near: some of them, each with the earlier one.
      n_tested_on: test images that a span holds, so that an earlier pretraining may have seen them without labels.
    """

    window: tuple[SpanCounts, ...]
    decision: str
    notes: tuple[str, ...]
    n_near: int | None
    near: tuple[tuple[str, str], ...]
    n_tested_on: int


@dataclass(frozen=True, kw_only=True)
class ArtifactReference:
    """An artifact the report was made from."""

    name: str
    type_name: str
    uri: str


@dataclass(frozen=True, kw_only=True)
class DriftedStatistic:
    """A number of each image, compared between new images and window."""

    name: str
    new_median: float
    window_median: float
    distance: float
    p_value: float


@dataclass(frozen=True, kw_only=True)
class UnusualImage:
    """A new image unlike the window's: `times` as far from its nearest as they are, `picture` a PNG."""

    key: str
    times: float
    share: float
    picture: bytes


@dataclass(frozen=True, kw_only=True)
class Drift:
    """New images beside the window's.

    `images` and `compared` are (new, window). `p_value`, `mmd2` and `expected` are of the champion's embeddings, None
    where `not_compared` says why. `findings` are (kind, words, policy).
    """

    images: tuple[int, int]
    compared: tuple[int, int]
    champion: str
    false_alarm_rate: float
    threshold: float
    p_value: float | None
    mmd2: float | None
    expected: float | None
    not_compared: str
    statistics: tuple[DriftedStatistic, ...]
    findings: tuple[tuple[str, str, str], ...]
    unusual: tuple[UnusualImage, ...]


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """Everything on the page. None where the run did not produce it."""

    ingest: tuple[SourceCounts, ...]
    rejects: tuple[Reject, ...]
    spans: Spans | None
    channels: Channels
    labels: LabelCounts
    rows: tuple[Row, ...]
    pretrain_start: str | None
    pretrain_history: Mapping[str, np.ndarray]
    views: Views
    embeddings: Embeddings
    runs: tuple[Run, ...]
    evaluated_classes: tuple[ClassAccuracy, ...] | None
    decision: Decision | None
    compared: Compared | None
    drift: Drift | None
    nodes: tuple[Node, ...] | None
    started: str | None
    artifacts: tuple[ArtifactReference, ...]
    configuration: str
    code_version: str
    versions: Mapping[str, str]

    @property
    def candidate(self) -> Run | None:
        """The run that may be pushed: of the last step that there is, on the largest fraction of the labels."""
        rows = [{"arm": run.row.arm, "label_fraction": run.row.label_fraction, "run": run} for run in self.runs]
        chosen = candidate_of(rows)
        return None if chosen is None else chosen["run"]


def percent(fraction: float) -> str:
    """Writes a share of one as a percentage without needless zeros, e.g. 0.01 as '1%'."""
    return f"{100 * fraction:.4g}%"
