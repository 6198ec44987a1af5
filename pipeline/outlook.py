"""A look at a source that grows before anything runs: is there something to do at all? No TFX, no TensorFlow."""

import hashlib
from dataclasses import dataclass

from components.span_ingest import cycle, delivery, ledger, window
from components.span_ingest.store import DamagedError, SpanStore
from pipeline.config import PipelineConfig
from trainer.config import ConfigError

_DIGEST_LENGTH = 16


@dataclass(frozen=True)
class Outlook:
    """What a look tells.

    Attributes:
        fingerprint: of the source and of what was trained on; for SpanIngest's cache key. What SpanIngest itself
            changes is no part of it, so that a run that was killed after it goes on from its results.
        nothing_to_do: why no run is needed, in words; None: SpanIngest has to see.
        new_images: that no completed run was trained on, as far as they are ingested.
        notes: of files that changed, vanished and the like, and of a ledger that had to be mended.
    """

    fingerprint: str
    nothing_to_do: str | None
    new_images: int
    notes: tuple[str, ...]


def look(config: PipelineConfig) -> Outlook:
    """Compares the source with what was ingested, and that with what was trained on.

    Args:
        config: with `retrain.store`.

    Raises:
        ConfigError: the source does not exist, or the store cannot be there.
        DamagedError: something in the store is not what was written.
    """
    settings = config.retrain
    try:
        store = SpanStore(settings.store)
        spans = store.spans()
        known = ledger.load(store, spans)
        # Whether a file has settled is SpanIngest's to say.
        found = delivery.plan(config.data.unlabeled, known, settle_s=0.0)
    except DamagedError:
        raise
    except NotADirectoryError as error:
        raise ConfigError(
            f"retrain.store = {settings.store!r}: is no folder; give one, or a name that is free"
        ) from error
    except ValueError as error:
        raise ConfigError(f"data.unlabeled, retrain.store: {error}") from error
    trained = store.trained()
    parts = window.choose(spans, trained=trained, last=settings.window_spans)
    verdict = cycle.judge(
        spans,
        trained=trained,
        # At most: what the test split leaves out of it, only SpanIngest knows.
        in_window=sum(part.span.counts.kept for part in parts),
        min_new_images=settings.min_new_images,
        min_window_images=config.pretrain.batch_size or 1,
    )
    return Outlook(
        fingerprint=_fingerprint(found, trained),
        nothing_to_do=verdict.words if found.is_empty and not verdict.proceed else None,
        new_images=verdict.new_images,
        notes=(*known.notes, *delivery.in_words(found)),
    )


def _fingerprint(found: delivery.Delivery, trained: int) -> str:
    digest = hashlib.sha256(f"{trained}\n".encode())
    for path, state in sorted(found.look.files.items()):
        digest.update(f"{path}\0{state.size}\0{state.version}\n".encode(errors="backslashreplace"))
    for path, reject in sorted(found.look.rejects.items()):
        digest.update(f"{path}\0{reject.reason}\n".encode(errors="backslashreplace"))
    return digest.hexdigest()[:_DIGEST_LENGTH]
