"""The ledger: what is known of every file and every image that any span was made from.

It is a cache of the spans' files.jsonl, whole in one Parquet file, and can be removed at any time: what is missing,
damaged or behind is made anew from the spans, and that is said. A look-up takes time in proportion to the ledger and
to what is looked up, by Arrow's hash tables, whose memory is not Python's.
"""

import dataclasses
import io
import json
from collections.abc import Collection, Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.image_example_gen import outcomes
from components.span_ingest.listing import State
from components.span_ingest.store import FILES, Span, SpanStore

LEDGER = "ledger.parquet"
_MADE_FROM = b"spans"
_PIECE_ROWS = 65_536
# A row of files.jsonl, see `delivery.rows_of`, and its span. Rows with a member are of what lies in an archive.
SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("member", pa.string()),
        ("size", pa.int64()),
        ("version", pa.string()),
        ("outcome", pa.string()),
        ("sha256", pa.string()),
        ("key", pa.string()),
        ("of", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("perceptual_hash", pa.string()),
        ("span", pa.int32()),
    ]
)


@dataclasses.dataclass(frozen=True)
class Ledger:
    """Rows of all spans, in their order.

    Attributes:
      table: of `SCHEMA`.
      notes: what had to be mended to get it, in words; empty: nothing.
    """

    table: pa.Table
    notes: tuple[str, ...] = ()

    def states(self, paths: Sequence[str]) -> list[State | None]:
        """The state in which each file was last ingested; None: it never was."""
        files = self._latest_files()
        found = pc.index_in(pa.array(paths, pa.string()), value_set=files["path"].combine_chunks())
        taken = files.select(["size", "version"]).take(found).to_pydict()
        return [
            None if size is None else State(size, version)
            for size, version in zip(taken["size"], taken["version"], strict=True)
        ]

    def missing_from(self, paths: Sequence[str]) -> list[str]:
        """Files that were ingested at some time and are not among these."""
        files = self._latest_files()["path"]
        there = pc.is_in(files, value_set=pa.array(paths, pa.string()))
        return sorted(files.filter(pc.invert(there)).to_pylist())

    def kept(self, spans: Iterable[int] | None = None) -> pa.Table:
        """`sha256`, `perceptual_hash`, `path`, `member` and `span` of the kept images of some spans, None: of all."""
        is_kept = pc.equal(self.table["outcome"], outcomes.KEPT)
        if spans is not None:
            wanted = pa.array(sorted(spans), pa.int32())
            is_kept = pc.and_(is_kept, pc.is_in(self.table["span"], value_set=wanted))
        columns = ["sha256", "perceptual_hash", "path", "member", "span"]
        return self.table.select(columns).filter(is_kept)

    def count_kept(self, hashes: Collection[str]) -> int:
        """How many of these contents are an image of any span."""
        wanted = pa.array(sorted(hashes), pa.string())
        found = pc.is_in(wanted, value_set=self.kept()["sha256"].combine_chunks())
        return pc.sum(found).as_py() or 0

    def contents(self) -> Iterator[list[tuple[str, int]]]:
        """Hashes of all kept images with their spans, in pieces."""
        for batch in self.kept().select(["sha256", "span"]).to_batches(max_chunksize=_PIECE_ROWS):
            yield list(zip(*(column.to_pylist() for column in batch.columns), strict=True))

    def _latest_files(self) -> pa.Table:
        """The last row of each file: the first one from the end, which is what Arrow's look-up finds."""
        files = self.table.select(["path", "size", "version"]).filter(pc.is_null(self.table["member"]))
        files = files.take(pa.array(range(len(files) - 1, -1, -1), pa.int64()))
        paths = files["path"].combine_chunks()
        return files.take(pc.index_in(pc.unique(paths), value_set=paths))


def load(store: SpanStore, spans: Sequence[Span]) -> Ledger:
    """Reads the ledger, and makes it anew, whole or what is missing of it, where it does not tell of these spans.

    Args:
      store: of the spans.
      spans: all there are.

    Raises:
      DamagedError: a span's files.jsonl is not what was written.
    """
    known, note = _read(store.folder.read(LEDGER))
    made_from = _made_from(known)
    wanted = [_name(span) for span in spans]
    if made_from != wanted[: len(made_from)]:
        known, note, made_from = SCHEMA.empty_table(), "the ledger told of other spans than there are", []
    missing = spans[len(made_from) :]
    if not missing:
        return Ledger(known)
    note = note or f"the ledger ended with span {spans[len(made_from) - 1].number if made_from else 0}"
    table = pa.concat_tables([known, *(table_of(store, span) for span in missing)]).combine_chunks()
    table = table.replace_schema_metadata({_MADE_FROM: json.dumps(wanted).encode()})
    save(store, table)
    what = f"{note}: it was made from the files of {len(missing)} of {len(spans)} spans"
    return Ledger(table, (what,))


def extended(store: SpanStore, ledger: Ledger, span: Span) -> Ledger:
    """The ledger with a span that has just been committed; it is written too."""
    made_from = [*_made_from(ledger.table), _name(span)]
    table = pa.concat_tables([ledger.table, table_of(store, span)]).combine_chunks()
    table = table.replace_schema_metadata({_MADE_FROM: json.dumps(made_from).encode()})
    save(store, table)
    return Ledger(table, ledger.notes)


def table_of(store: SpanStore, span: Span) -> pa.Table:
    """The rows of one span.

    Raises:
      DamagedError: files.jsonl is not what was written.
    """
    rows = store.rows(span)
    columns = {name: [row.get(name) for row in rows] for name in SCHEMA.names if name != "span"}
    try:
        return pa.table({**columns, "span": [span.number] * len(rows)}, schema=SCHEMA)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise store.damaged(f"{span.folder}/{FILES}", str(error)) from error


def save(store: SpanStore, table: pa.Table) -> None:
    """Writes the ledger; of two runs that do, the later one's stays, and the next run sees what it lacks."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    store.folder.replace(LEDGER, buffer.getvalue())


def _read(content: bytes | None) -> tuple[pa.Table, str]:
    """The rows that can be read, and why there are none."""
    if content is None:
        return SCHEMA.empty_table(), "there was no ledger"
    try:
        table = pq.read_table(io.BytesIO(content))
    except (pa.ArrowException, OSError) as error:
        return SCHEMA.empty_table(), f"the ledger was damaged ({str(error).splitlines()[0]})"
    if not table.schema.equals(SCHEMA):
        return SCHEMA.empty_table(), "the ledger was of another version"
    return table, ""


def _made_from(table: pa.Table) -> list[str]:
    return json.loads((table.schema.metadata or {}).get(_MADE_FROM, b"[]"))


def _name(span: Span) -> str:
    return f"{span.number}/{span.attempt}/{span.rows_crc32c}"
