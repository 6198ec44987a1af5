"""One cycle: what is new becomes the next span, in a race with whoever else does the same; then, is there enough?"""

import dataclasses
import logging
import time
from collections.abc import Callable, Iterable, Sequence

import apache_beam as beam

from components.image_example_gen import ingest, scratch, sources, summary
from components.span_ingest import delivery as deliveries
from components.span_ingest import ledger as ledgers
from components.span_ingest.delivery import Delivery
from components.span_ingest.ledger import Ledger
from components.span_ingest.store import Counts, Span, SpanStore, now

# Of fewer rejects a share says nothing: a README that comes alone is all of its delivery, and would stop every run
# from then on. So few become rows of a span and are not read again; a delivery that went wrong has more.
LEAST_REJECTS = 10
# More rivals than this in one cycle are no rivals, but a fault.
_MOST_RACES = 10
SOURCE = "unlabeled"
_SPLIT = "train"
_LOGGER = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Of the ingestion of a delivery.

    Attributes:
      source: path with what grows, see `listing.look`.
      settle_s: see `delivery.plan`.
      max_pixels: images of more are rejected.
      max_rejected_share: more rejects of a delivery than this, and `LEAST_REJECTS` or more, stop the run, and no span
        is made.
      num_shards: files a span; more where they would be larger than fits into memory.
      with_perceptual_hash: whether each image's is kept in the ledger.
    """

    source: str
    settle_s: float
    max_pixels: int
    max_rejected_share: float
    num_shards: int
    with_perceptual_hash: bool


@dataclasses.dataclass(frozen=True)
class Cycle:
    """What a cycle found and made.

    Attributes:
      spans: all there are now.
      ledger: that tells of all of them.
      delivery: the last look.
      made: the span of this run; None: there was nothing to ingest, or another run has ingested it.
      notes: sentences for a person.
    """

    spans: tuple[Span, ...]
    ledger: Ledger
    delivery: Delivery
    made: Span | None
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether to train, how many new images there are since the last completed run, and why in words."""

    proceed: bool
    new_images: int
    words: str


# Reads work items as `image_example_gen.ingest.build` does, and returns what its `collect` does.
ReadWork = Callable[[Sequence[sources.Work], ingest.Settings, Iterable[Sequence[tuple[str, int]]]], ingest.Part]


def run(
    store: SpanStore,
    settings: Settings,
    read_work: ReadWork,
    *,
    clock: Callable[[], float] = time.time,
    wait: Callable[[float], object] = time.sleep,
) -> Cycle:
    """Ingests what is new as the next span.

    A run that finds its number taken when it is done has lost it to another one, throws its work away and looks
    again: then its files are in the ledger, or they are not, and go into the number after that.

    Args:
      store: of the spans.
      settings: of the delivery.
      read_work: does the reading.
      clock: see `delivery.plan`.
      wait: see `delivery.plan`.

    Raises:
      ValueError: the source does not exist, or too much of the delivery was rejected.
      DamagedError: something in the store is not what was written.
    """
    notes: list[str] = []
    for _ in range(_MOST_RACES):
        spans = store.spans()
        ledger = ledgers.load(store, spans)
        notes += [note for note in ledger.notes if note not in notes]
        delivery = deliveries.plan(settings.source, ledger, settle_s=settings.settle_s, clock=clock, wait=wait)
        if delivery.is_empty:
            return Cycle(tuple(spans), ledger, delivery, None, (*notes, *deliveries.in_words(delivery)))
        made = _make_span(store, settings, delivery, ledger, store.next_number(spans), read_work)
        if made is not None:
            swept = store.sweep()
            notes += [f"unfinished attempts of earlier runs were removed: {len(swept)}"] if swept else []
            ledger = ledgers.extended(store, ledger, made)
            return Cycle((*spans, made), ledger, delivery, made, (*notes, *deliveries.in_words(delivery)))
        notes.append("another run ingested at the same time and was first; this one looked again")
    raise RuntimeError(
        f"{store.folder.path}: other runs were first {_MOST_RACES} times; is something committing spans?"
    )


def judge(
    spans: Sequence[Span], *, trained: int, in_window: int, min_new_images: int, min_window_images: int
) -> Verdict:
    """Says whether there is enough to train on.

    New is what came in spans after the last one that a completed run was trained on: so a run that was killed after
    its span was written leaves it new, and the next run goes on with it.

    Args:
      spans: all there are.
      trained: number of the last span of a completed run's window.
      in_window: images that the window holds.
      min_new_images: fewer wait for more; 0: trains whether or not anything is new.
      min_window_images: what has to be there at least, such as one batch.
    """
    new = sum(span.counts.kept for span in spans if span.number > trained)
    came = f"{new} new image{'s' * (new != 1)}"
    if new == 0 and min_new_images > 0:
        return Verdict(False, new, "no new images: nothing to do")
    if new < min_new_images:
        return Verdict(False, new, f"{came}, fewer than retrain.min_new_images = {min_new_images}: waiting for more")
    if in_window < max(min_window_images, 1):
        there = f"{in_window} image{'s' * (in_window != 1)}"
        words = f"the window has {there}, and a batch takes {min_window_images}: waiting for more"
        return Verdict(False, new, words)
    return Verdict(True, new, f"{came}, {in_window} in the window")


def _make_span(
    store: SpanStore,
    settings: Settings,
    delivery: Delivery,
    ledger: Ledger,
    number: int,
    read_work: ReadWork,
) -> Span | None:
    """Ingests a delivery; None: another run has made the span of this number."""
    attempt = store.begin(number)
    span = None
    try:
        candidate = _ingest(store, settings, delivery, ledger, number, attempt, read_work)
        if store.commit(candidate):
            span = candidate
    except Exception:
        # The winner of a race sweeps the losers' attempts, also from under their hands.
        if not store.has(number):
            raise
        _LOGGER.info("span %d was lost to another run", number, exc_info=True)
    finally:
        if span is None:
            store.abandon(attempt)
    return span


def _ingest(
    store: SpanStore,
    settings: Settings,
    delivery: Delivery,
    ledger: Ledger,
    number: int,
    attempt: str,
    read_work: ReadWork,
) -> Span:
    source = sources.Source(SOURCE, settings.source, _SPLIT, labeled=False)
    files = sorted(delivery.look.names[path] for path in delivery.take)
    work = sources.work_of(source, delivery.look.root, files, [delivery.rejects[p] for p in sorted(delivery.rejects)])
    ingestion = ingest.Settings(
        splits=(_SPLIT,),
        split_uris=(store.uri(attempt),),
        work_uri=store.uri(f"{attempt}/work"),
        num_shards=ingest.shards_for(work, at_least=settings.num_shards),
        max_pixels=settings.max_pixels,
        holdout_fraction=0.0,
        is_span=True,
        with_perceptual_hash=settings.with_perceptual_hash,
    )
    try:
        scratch.make_folder(ingestion.work_uri)
        part = read_work(work, ingestion, ledger.contents())
    finally:
        # It holds all images a second time.
        store.abandon(f"{attempt}/work")
    account = part.accounts.get(SOURCE, summary.Account())
    share = settings.max_rejected_share if account.rejected >= LEAST_REJECTS else 1.0
    summary.check(part.accounts, [source], splits=(), max_rejected_share=share)
    rows = deliveries.rows_of(part.told, delivery)
    counts = Counts(account.read, account.kept, account.duplicate, account.rejected)
    told = deliveries.counted(rows)
    if told != {name: getattr(counts, name) for name in told}:
        raise RuntimeError(f"span {number}: its files.jsonl tells of {told}, its account of {counts}")
    n_rows, rows_crc32c = store.write_rows(attempt, rows)
    return Span(
        number=number,
        attempt=attempt.rpartition("/")[2],
        counts=counts,
        shards=tuple(sorted(part.shards)),
        rows=n_rows,
        rows_crc32c=rows_crc32c,
        source=settings.source,
        made=now(),
    )


def reader(make_pipeline: Callable[[], beam.Pipeline], excluded_files: list[str]) -> ReadWork:
    """Returns what reads by Beam.

    Args:
      make_pipeline: returns a pipeline that runs when it is left.
      excluded_files: TFRecords of the test split, of whose images no copy is kept.
    """

    def read(
        work: Sequence[sources.Work], settings: ingest.Settings, known: Iterable[Sequence[tuple[str, int]]]
    ) -> ingest.Part:
        with make_pipeline() as pipeline:
            ingest.build(pipeline, work, excluded_files, settings, known=known)
        return ingest.collect(settings, work_count=len(work))

    return read
