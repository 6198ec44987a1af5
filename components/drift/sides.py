"""The two sides of the comparison: what is new, and what the last completed run was trained on."""

from collections.abc import Sequence

from components.drift import samples
from components.drift.samples import Sample
from components.span_ingest import ledger as ledgers
from components.span_ingest import window
from components.span_ingest.settings import RetrainConfig
from components.span_ingest.store import SpanStore


def read(
    settings: RetrainConfig, test_files: Sequence[str], *, newest: int, size: int, seed: int
) -> tuple[Sample, Sample]:
    """Samples of the new images, and of a window of the newest spans that were trained on before they came.

    Not of the window that is about to be trained on: of that nothing is left without the new images where one span
    fills it, or where all of its spans are new. What another run has completed meanwhile is new no longer.

    Args:
      settings: of SpanIngest.
      test_files: TFRecords of the test split, whose images nobody trains on.
      newest: number of the last span that SpanIngest has seen.
      size: images of each side, at most.
      seed: of SpanIngest's shares and of the choice.

    Raises:
      DamagedError: something in the store is not what was written.
    """
    store = SpanStore(settings.store)
    trained, spans = store.trained(), store.spans()
    ledger = ledgers.load(store, spans)
    old = window.choose(
        [span for span in spans if span.number <= trained],
        trained=trained,
        last=settings.window_spans,
        half_life_spans=settings.half_life_spans,
    )
    new = [window.Part(span, 1.0) for span in spans if trained < span.number <= newest]
    # Of both at once: a new image that the window held already is none.
    shares = window.shares(ledger, [*old, *new], tested_on=window.hashes_in(test_files), seed=seed)
    new_side, old_side = (
        samples.read(store, ledger, side, size=size, seed=seed) for side in (shares[len(old) :], shares[: len(old)])
    )
    return new_side, old_side
