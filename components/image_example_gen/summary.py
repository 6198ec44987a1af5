"""Accounts of what was read: merged, proved whole, judged against the limits, written."""

import collections
import dataclasses
import json
from collections.abc import Iterable, Sequence

from components.image_example_gen import labels, names
from components.image_example_gen.sources import Source

# How many reasons the message of a failed run quotes.
_TOP_REASONS = 5
NO_LABEL = "no_label"
CONFLICTING_LABELS = "conflicting_labels"
TRAINED_ON = "trained_on_before"
# In Beam 2.64, a worker that is a thread has its output buffer emptied by a second thread each second, and what it
# writes meanwhile is lost: seen in one run of ten.
BEAM_AT_FAULT = (
    "nothing was kept of this run. Run it again; with --direct_running_mode=multi_threading use in_memory or "
    "multi_processing instead."
)


@dataclasses.dataclass
class Account:
    """Counts of one source. `read` is counted by the readers, the rest by the writers."""

    read: int = 0
    kept: int = 0
    duplicate: int = 0
    rejected: int = 0
    duplicate_of_excluded: int = 0
    reasons: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    classes: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    splits: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    first_of_reason: dict[str, str] = dataclasses.field(default_factory=dict)

    def reject(self, uri: str, reason: str) -> None:
        """Counts a reject, and keeps the first URI of each reason in the alphabet as its example."""
        self.rejected += 1
        self.reasons[reason] += 1
        self.first_of_reason[reason] = min(uri, self.first_of_reason.get(reason, uri))

    def add(self, other: "Account") -> None:
        """Adds another account of the same source."""
        for name in ("read", "kept", "duplicate", "rejected", "duplicate_of_excluded"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("reasons", "classes", "splits"):
            getattr(self, name).update(getattr(other, name))
        for reason, uri in other.first_of_reason.items():
            self.first_of_reason[reason] = min(uri, self.first_of_reason.get(reason, uri))


Accounts = dict[str, Account]


def merge(parts: Iterable[Accounts]) -> Accounts:
    """Adds up the accounts of the writers."""
    total: Accounts = collections.defaultdict(Account)
    for part in parts:
        for name, account in part.items():
            total[name].add(account)
    return dict(total)


def check(accounts: Accounts, sources: Sequence[Source], *, splits: Sequence[str], max_rejected_share: float) -> None:
    """Proves that nothing vanished and that there is enough to go on with.

    Raises:
      RuntimeError: if images vanished or multiplied between readers and writers.
      ValueError: for a labelled source with no label at all, for more rejects than allowed, or for a split
        without images; the message names the path, the reasons and the remedy.
    """
    for source in sources:
        account = accounts.get(source.name, Account())
        if account.read != account.kept + account.duplicate + account.rejected:
            raise RuntimeError(
                f"{source.name}: read {account.read} images, but kept {account.kept} + duplicate "
                f"{account.duplicate} + rejected {account.rejected}: {BEAM_AT_FAULT}"
            )
        some_labeled = account.kept or account.duplicate or account.reasons[CONFLICTING_LABELS]
        if account.reasons[NO_LABEL] and not some_labeled:
            raise ValueError(_no_label_message(source, account))
        if account.rejected > max_rejected_share * account.read:
            remedy = f"{labels.HOW_TO_LABEL} " if account.reasons[NO_LABEL] else ""
            raise ValueError(
                f"{source.name}: {account.rejected} of {account.read} images in {source.path} were rejected, "
                f"more than max_rejected_share={max_rejected_share:g} allows:\n{_reasons_text(account)}\n"
                f"{remedy}Mend or remove them, or raise data.max_rejected_share."
            )
    kept = collections.Counter()
    for account in accounts.values():
        kept.update(account.splits)
    for split in splits:
        if not kept[split]:
            raise ValueError(_empty_split_message(split, accounts, sources))


def _no_label_message(source: Source, account: Account) -> str:
    looked_at = f"the manifest {source.manifest}" if source.manifest else "class folders, .cls files and manifests"
    return (
        f"{source.name}: none of the {account.reasons[NO_LABEL]} images in {source.path} has a label "
        f"(looked at {looked_at}; for example {account.first_of_reason[NO_LABEL]}). {labels.HOW_TO_LABEL}"
    )


def _empty_split_message(split: str, accounts: Accounts, sources: Sequence[Source]) -> str:
    lines = []
    for source in sources:
        account = accounts.get(source.name, Account())
        lines.append(
            f"  {source.name} ({source.path}): read {account.read}, kept {account.kept}, "
            f"duplicate {account.duplicate}, rejected {account.rejected}\n{_reasons_text(account)}".rstrip()
        )
    remedy = (
        "Give more images, or more of them to the test split (holdout_fraction, a manifest's split column)."
        if split == "test" and all(source.split == "train" for source in sources)
        else "Point the source at readable images that are in no other split."
    )
    return f"No image is left for the split {split!r}:\n" + "\n".join(lines) + f"\n{remedy}"


def _reasons_text(account: Account) -> str:
    return "\n".join(
        f"    {count} x {reason}, for example {account.first_of_reason[reason]}"
        for reason, count in sorted(account.reasons.items(), key=lambda item: (-item[1], item[0]))[:_TOP_REASONS]
    )


def to_json(accounts: Accounts, sources: Sequence[Source], *, matched_rows: dict[str, int]) -> str:
    """Returns summary.json: one object a source.

    Args:
      accounts: of all sources.
      sources: as planned, with their manifests.
      matched_rows: how many rows of its manifest each source used.
    """
    document = {}
    for source in sources:
        account = accounts.get(source.name, Account())
        entry = {name: getattr(account, name) for name in ("read", "kept", "duplicate", "rejected")}
        entry["reasons"] = dict(sorted(account.reasons.items()))
        entry["splits"] = dict(sorted(account.splits.items()))
        if account.duplicate_of_excluded:
            entry["duplicate_of_excluded"] = account.duplicate_of_excluded
        if source.labeled:
            entry["classes"] = dict(sorted(account.classes.items()))
        if source.manifest:
            rows = len(labels.load_manifest(source.manifest))
            entry["manifest_unmatched"] = rows - matched_rows.get(source.name, 0)
        document[source.name] = entry
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def rejects_json(rejects: Iterable[tuple[str, names.Reject]]) -> str:
    """Returns the lines of rejects.jsonl, in an order that depends on nothing but the rejects."""
    ordered = sorted((source, item.uri, item.reason, item.detail) for source, item in rejects)
    return "".join(
        json.dumps(dict(zip(("source", "uri", "reason", "detail"), row, strict=True))) + "\n" for row in ordered
    )
