"""What a cycle leaves for people and for the report: summary.json, rejects.jsonl, spans.json."""

import dataclasses
import json
from collections.abc import Collection, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from components.image_example_gen import dedupe, outcomes
from components.span_ingest import near
from components.span_ingest.cycle import SOURCE, Cycle, Verdict
from components.span_ingest.ledger import Ledger
from components.span_ingest.window import Part, Share

# How many paths are quoted of each kind.
_EXAMPLES = 20


def summary_json(ledger: Ledger, window: Sequence[Share]) -> str:
    """Returns summary.json of the window, as ImageExampleGen writes it of a source.

    Images that are left out for the test split or as repeated are duplicates in it; those that the shares leave out
    are kept ones, and counted as `sampled_out` beside.
    """
    rows = _rows_of(ledger, window)
    counts = {name: sum(getattr(share.span.counts, name) for share in window) for name in ("read", "rejected")}
    left_out = sum(len(share.tested_on) + len(share.repeated) for share in window)
    kept = sum(share.span.counts.kept for share in window) - left_out
    duplicate = sum(share.span.counts.duplicate for share in window) + left_out
    if counts["read"] != kept + duplicate + counts["rejected"]:
        raise RuntimeError(f"the window's {counts} are not kept {kept} + duplicate {duplicate} + rejected")
    of_test = pc.sum(pc.equal(rows["of"], dedupe.OF_TEST)).as_py() or 0
    entry = {
        "read": counts["read"],
        "kept": kept,
        "duplicate": duplicate,
        "rejected": counts["rejected"],
        "reasons": _counted(rows.filter(pc.equal(rows["outcome"], outcomes.REJECTED))["reason"]),
        "splits": {"train": sum(share.images for share in window)},
        "sampled_out": sum(len(share.sampled_out) for share in window),
        "duplicate_of_excluded": of_test + sum(len(share.tested_on) for share in window),
    }
    return json.dumps({SOURCE: entry}, ensure_ascii=False, indent=2) + "\n"


def rejects_jsonl(ledger: Ledger, window: Sequence[Share]) -> str:
    """Returns the lines of rejects.jsonl of the window, by span and path."""
    rows = _rows_of(ledger, window)
    rejected = rows.filter(pc.equal(rows["outcome"], outcomes.REJECTED)).to_pylist()
    return "".join(
        json.dumps({"source": SOURCE, "uri": _name(row), "reason": row["reason"], "detail": row["detail"]}) + "\n"
        for row in rejected
    )


def spans_json(
    cycle: Cycle,
    verdict: Verdict,
    parts: Sequence[Part],
    window: Sequence[Share],
    *,
    trained: int,
    tested_on: Collection[str],
    near_duplicate_bits: int | None,
) -> str:
    """Returns spans.json: the decision, the delivery, the window span by span, near duplicates among what is new.

    Its `test_images_in_spans` counts the images of the test split, by the hashes `tested_on`, that some run has
    ingested as unlabeled ones before they were test images.
    """
    delivery, n_seen = cycle.delivery, cycle.ledger.count_kept(tested_on)
    document = {
        "decision": dataclasses.asdict(verdict),
        "trained": trained,
        "made": None if cycle.made is None else {"span": cycle.made.number, **dataclasses.asdict(cycle.made.counts)},
        "notes": [*cycle.notes, *([_seen_in_words(n_seen)] if n_seen else [])],
        "test_images_in_spans": n_seen,
        "delivery": {
            name: {"files": len(paths), "examples": list(paths[:_EXAMPLES])}
            for name in ("take", "changed", "late", "unsettled", "vanished")
            for paths in [getattr(delivery, name)]
        },
        "window": [
            {
                "span": share.span.number,
                "made": share.span.made,
                **dataclasses.asdict(share.span.counts),
                "share": part.share,
                "images": share.images,
                "tested_on": len(share.tested_on),
                "repeated": len(share.repeated),
                "sampled_out": len(share.sampled_out),
            }
            for part, share in zip(parts, window, strict=True)
        ],
        "near_duplicates": (
            None
            if near_duplicate_bits is None
            else near_duplicates(cycle.ledger, window, trained=trained, max_bits=near_duplicate_bits)
        ),
    }
    return json.dumps(document, ensure_ascii=True, indent=2) + "\n"


def _seen_in_words(count: int) -> str:
    are = "1 test image was" if count == 1 else f"{count} test images were"
    return (
        f"{are} ingested without a label before; no window holds them any more, but what was pretrained earlier, "
        "such as the champion, may have seen them"
    )


def near_duplicates(ledger: Ledger, window: Sequence[Share], *, trained: int, max_bits: int) -> dict[str, Any]:
    """Counts images of the window's new spans that are near to an earlier image of the window.

    Returns:
      `max_bits`; `compared`, the new images that have a hash; `found`; `examples`, pairs of a new and an earlier one.
    """
    kept = ledger.kept(share.span.number for share in window)
    kept = kept.filter(pc.is_valid(kept["perceptual_hash"]))
    is_new = pc.greater(kept["span"], trained)
    old, new = kept.filter(pc.invert(is_new)), kept.filter(is_new)
    hashes = [near.parse(rows["perceptual_hash"].to_pylist()) for rows in (new, old)]
    matches = near.find(*hashes, max_bits=max_bits)
    found = (matches >= 0).nonzero()[0]
    every = pa.concat_tables([old, new])
    shown = found[:_EXAMPLES]
    pairs = zip(new.take(shown).to_pylist(), every.take(matches[shown]).to_pylist(), strict=True)
    return {
        "max_bits": max_bits,
        "compared": len(new),
        "found": len(found),
        "examples": [[{"span": row["span"], "file": _name(row)} for row in pair] for pair in pairs],
    }


def _rows_of(ledger: Ledger, window: Sequence[Share]) -> pa.Table:
    numbers = pa.array([share.span.number for share in window], pa.int32())
    return ledger.table.filter(pc.is_in(ledger.table["span"], value_set=numbers))


def _counted(column: pa.ChunkedArray) -> dict[str, int]:
    return dict(sorted((pair["values"], pair["counts"]) for pair in pc.value_counts(column).to_pylist()))


def _name(row: dict[str, Any]) -> str:
    return row["path"] if row["member"] is None else f"{row['path']}!{row['member']}"
