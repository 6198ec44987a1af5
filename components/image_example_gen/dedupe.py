"""What needs to see more than one image: equal contents, equal keys, rows that fit several, a class's last image."""

import collections
import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from components.image_example_gen import names, summary
from trainer.enumeration import first_few_quoted

# Hex digits of the content's hash that tell images with one key apart.
_SUFFIX_DIGITS = 8
# What a duplicate is a copy of, where it is of no earlier span: another image of the same run, or of the test split.
OF_THIS_RUN, OF_TEST = "this run", "test"


class Record(NamedTuple):
    """A decoded image on its way from reader to writer."""

    sha256: str
    source: str
    labeled: bool
    split: str
    # True where nobody but the hash of its key, or an earlier run, made it a test image.
    held_out: bool
    uri: str
    key: str
    label: str | None
    # The manifest's row that fits by its base name only, if one does.
    loose_row: str | None
    data: bytes
    width: int
    height: int
    format: str
    source_format: str


class Claim(NamedTuple):
    """A name and who claims it: a key by an image's content, or a manifest's row by an image's key."""

    # '' for a key, else the source whose manifest has the row.
    source: str
    name: str
    claimant: str
    exact: bool


class Member(NamedTuple):
    """An image of a class that may train: not one that its source or its manifest made a test image."""

    name: str
    held_out: bool
    sha256: str
    # An earlier run has said whether it trains.
    settled: bool = False


@dataclasses.dataclass(frozen=True)
class Contested:
    """Names with more than one claimant, and contents that the hold-out must leave to training.

    Attributes:
      keys: claimed by several contents.
      rows: of a source's manifest whose base name fits several images.
      last_of_class: one content of each class whose images would all be held out, if there is one of which no earlier
        run has said so.
      matched_rows: by source, how many rows of its manifest were used.
    """

    keys: frozenset[str] = frozenset()
    rows: frozenset[tuple[str, str]] = frozenset()
    last_of_class: frozenset[str] = frozenset()
    matched_rows: collections.Counter = dataclasses.field(default_factory=collections.Counter)


def find_contested(claims: Iterable[Claim | Member]) -> Contested:
    """Finds keys that several contents claim, rows that fit several images, and classes all of which is held out."""
    first: dict[tuple[str, str], str] = {}
    contested: set[tuple[str, str]] = set()
    exact: set[tuple[str, str]] = set()
    # By class and content: a content trains only if none of its copies is held out.
    held_out: dict[str, dict[str, bool]] = collections.defaultdict(dict)
    settled: set[str] = set()
    for claim in claims:
        if isinstance(claim, Member):
            contents = held_out[claim.name]
            contents[claim.sha256] = claim.held_out or contents.get(claim.sha256, False)
            settled |= {claim.sha256} if claim.settled else set()
            continue
        source, name, claimant, is_exact = claim
        if first.setdefault((source, name), claimant) != claimant:
            contested.add((source, name))
        if is_exact and source:
            exact.add((source, name))
    matched = collections.Counter(source for source, _ in first if source)
    return Contested(
        keys=frozenset(name for source, name in contested if not source),
        # A row that names one image exactly is not also meant for others of the same base name.
        rows=frozenset(name for name in contested | exact if name[0]),
        last_of_class=frozenset(
            min(contents.keys() - settled)
            for contents in held_out.values()
            if all(contents.values()) and contents.keys() - settled
        ),
        matched_rows=matched,
    )


def union(parts: Iterable[Contested]) -> Contested:
    """Joins findings about disjoint sets of names."""
    parts = list(parts)
    return Contested(
        keys=frozenset().union(*(part.keys for part in parts)),
        rows=frozenset().union(*(part.rows for part in parts)),
        last_of_class=frozenset().union(*(part.last_of_class for part in parts)),
        matched_rows=sum((part.matched_rows for part in parts), collections.Counter()),
    )


def is_held_out(key: str, fraction: float) -> bool:
    """Says whether an image belongs to the share held out for testing; depends on nothing but its key."""
    digest = hashlib.sha256(b"holdout:" + key.encode("utf-8", "backslashreplace")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < fraction


class Settled(NamedTuple):
    """What became of records.

    Attributes:
      kept: by hash, with their final keys.
      duplicates: each with what it is a copy of: `OF_TEST`, the number of a span, or `OF_THIS_RUN`.
      rejects: each with its source.
    """

    kept: list[Record]
    duplicates: list[tuple[Record, str]]
    rejects: list[tuple[str, names.Reject]]


def settle(
    records: Iterable[Record],
    contested: Contested,
    excluded: frozenset[str],
    accounts: summary.Accounts,
    *,
    known: Mapping[str, int] = MappingProxyType({}),
    every_key_has_suffix: bool = False,
) -> Settled:
    """Chooses one record of each content; the outcome does not depend on the order of the records.

    Args:
      records: all records of the contents they contain.
      contested: over all records of the run.
      excluded: hashes of contents that must not be kept, for another artifact tests on them.
      accounts: to which kept, duplicate and rejected are added.
      known: hashes of contents that an earlier span holds, with its number.
      every_key_has_suffix: keys end in digits of the content's hash whether or not they are contested in this run,
        for no run sees the keys of later ones.
    """
    settled = Settled([], [], [])
    records = [_left_to_training(record, contested) for record in records]
    for sha256, copies in itertools.groupby(sorted(records, key=_rank), key=lambda record: record.sha256):
        usable = []
        for record in copies:
            fault = _label_fault(record, contested)
            if fault:
                settled.rejects.append((record.source, names.Reject(record.uri, summary.NO_LABEL, fault)))
            else:
                usable.append(record)
        labels_given = sorted({record.label for record in usable if record.label is not None})
        if len(labels_given) > 1:
            detail = f"copies of the same image are labelled {first_few_quoted(labels_given)}"
            believed = _declared_test_images(usable)
            settled.rejects.extend(
                (record.source, names.Reject(record.uri, summary.CONFLICTING_LABELS, detail))
                for record in usable
                if record not in believed
            )
            usable = believed
        if usable:
            copy_of = OF_TEST if sha256 in excluded else str(known[sha256]) if sha256 in known else None
            _count_copies(usable, accounts, copy_of=copy_of)
            if copy_of is None:
                settled.kept.append(_with_final_key(usable[0], contested, always=every_key_has_suffix))
            settled.duplicates.extend((record, copy_of or OF_THIS_RUN) for record in usable[copy_of is None :])
    for source, reject in settled.rejects:
        accounts[source].reject(reject.uri, reject.reason)
    return settled


def _left_to_training(record: Record, contested: Contested) -> Record:
    if record.held_out and record.sha256 in contested.last_of_class:
        return record._replace(split="train")
    return record


def _declared_test_images(copies: list[Record]) -> list[Record]:
    """Those of copies with several labels whose label stands: declared test images, if they agree with each other."""
    declared = [record for record in copies if record.split == "test" and not record.held_out]
    return declared if len({record.label for record in declared}) == 1 else []


def _rank(record: Record) -> tuple:
    """Sorts the copy that is kept first: a test image stays one, a label is not lost, then the first URI."""
    return (record.sha256, record.split != "test", not record.labeled, record.uri, record.source)


def _label_fault(record: Record, contested: Contested) -> str | None:
    if not record.labeled:
        return None
    if record.loose_row is not None and (record.source, record.loose_row) in contested.rows:
        return f"the manifest's row {record.loose_row!r} fits several images; give their paths"
    return None if record.label else "no class folder, .cls file or manifest row gives it a label"


def _count_copies(copies: list[Record], accounts: summary.Accounts, *, copy_of: str | None) -> None:
    for number, record in enumerate(copies):
        account = accounts[record.source]
        if copy_of is not None:
            account.duplicate += 1
            account.duplicate_of_excluded += copy_of == OF_TEST
        elif number:
            account.duplicate += 1
        else:
            account.kept += 1
            account.splits[record.split] += 1
            if record.labeled:
                account.classes[record.label] += 1


def _with_final_key(record: Record, contested: Contested, *, always: bool) -> Record:
    if not always and record.key not in contested.keys:
        return record
    return record._replace(key=f"{record.key}-{record.sha256[:_SUFFIX_DIGITS]}")
