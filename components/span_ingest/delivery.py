"""Which files of a source a run ingests, and which it leaves, with the reason."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from components.image_example_gen import names, outcomes
from components.span_ingest import listing
from components.span_ingest.ledger import Ledger
from components.span_ingest.listing import Look, State

# A row of an archive itself; its members' rows say what became of the images.
ARCHIVE = "archive"
# What is no file has no state; it is known by its path and why it was rejected.
_NO_SIZE = 0


@dataclasses.dataclass(frozen=True)
class Delivery:
    """What a look at the source and the ledger comes to.

    Attributes:
      look: at the source.
      take: files to ingest, sorted: those that were never ingested, and those that have changed since they were.
      rejects: what is no file, and has not been rejected before, by path.
      changed: those of `take` that were ingested before, in another state.
      late: those of `take` whose folder or name states an earlier delivery than one that was ingested before.
      unsettled: files that are still being written; the next run looks at them again.
      vanished: files that were ingested at some time and are there no more; their images stay in their spans.
    """

    look: Look
    take: tuple[str, ...]
    rejects: Mapping[str, names.Reject]
    changed: tuple[str, ...] = ()
    late: tuple[str, ...] = ()
    unsettled: tuple[str, ...] = ()
    vanished: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to ingest."""
        return not self.take and not self.rejects


def plan(
    source: str,
    ledger: Ledger,
    *,
    settle_s: float,
    clock: Callable[[], float] = time.time,
    wait: Callable[[float], object] = time.sleep,
) -> Delivery:
    """Looks at the source, and once more at what was written a moment ago.

    A file that was written less than `settle_s` ago, or after the present by the clock, is looked at again after that
    time: it is taken if it is then the same. Objects in a bucket appear whole and are taken as they are.

    Args:
      source: see `listing.look`.
      ledger: of what was ingested before.
      settle_s: between the two looks, seconds.
      clock: the time, seconds since the epoch.
      wait: takes the seconds between the looks.

    Raises:
      ValueError: a local path that does not exist.
    """
    look = listing.look(source)
    paths = sorted(look.files)
    before = dict(zip(paths, ledger.states(paths), strict=True))
    wanted = [path for path in paths if before[path] != look.files[path]]
    unsettled = _unsettled(look, wanted, settle_s=settle_s, clock=clock, wait=wait)
    take = tuple(path for path in wanted if path not in unsettled)
    return Delivery(
        look=look,
        take=take,
        rejects=_new_rejects(look, ledger),
        changed=tuple(path for path in take if before[path] is not None),
        late=_late(take, before, source, ledger),
        unsettled=tuple(sorted(unsettled)),
        # A folder that could not be listed then can be now.
        vanished=tuple(path for path in ledger.missing_from([*paths, *look.rejects]) if not path.endswith("/")),
    )


def _unsettled(
    look: Look,
    wanted: list[str],
    *,
    settle_s: float,
    clock: Callable[[], float],
    wait: Callable[[float], object],
) -> set[str]:
    settled_before_s = clock() - settle_s
    fresh = [path for path in wanted if look.touched_s.get(path, settled_before_s) > settled_before_s]
    if not fresh:
        return set()
    wait(settle_s)
    then = listing.again(look, fresh)
    return {path for path in fresh if then[path] != look.files[path]}


def _new_rejects(look: Look, ledger: Ledger) -> dict[str, names.Reject]:
    paths = sorted(look.rejects)
    before = ledger.states(paths)
    return {
        path: look.rejects[path]
        for path, state in zip(paths, before, strict=True)
        if state != _state_of_reject(look.rejects[path])
    }


def _state_of_reject(reject: names.Reject) -> State:
    return State(_NO_SIZE, reject.reason)


def _late(take: Iterable[str], before: Mapping[str, State | None], source: str, ledger: Ledger) -> tuple[str, ...]:
    new = {path: order for path in take if before[path] is None and (order := listing.order_of(path, source))}
    if not new:
        return ()
    known = [order for path in ledger.missing_from([]) if (order := listing.order_of(path, source))]
    newest = max(known, default=())
    return tuple(path for path, order in new.items() if order < newest)


def rows_of(told: Iterable[outcomes.Outcome], delivery: Delivery) -> list[dict[str, Any]]:
    """The lines of files.jsonl: one for each image and each reject, and one for each archive, in the order of paths.

    A line has `path` and `outcome` (kept, duplicate, rejected; archive), for a file `size` and `version`, for what
    lies in an archive `member`, and of `sha256`, `key`, `of`, `reason`, `detail`, `perceptual_hash` what there is.
    """
    look = delivery.look
    root = names.text(look.root.rstrip("/"))
    states = {path: look.files[path] for path in delivery.take}
    states |= {path: _state_of_reject(reject) for path, reject in delivery.rejects.items()}
    by_uri = {f"{root}/{path}": path for path in states}
    rows, of_files = [], set()
    for outcome in told:
        path, member = _path_and_member(outcome.uri, by_uri)
        row: dict[str, Any] = {"path": path}
        if member is None:
            of_files.add(path)
            row |= states[path]._asdict()
        else:
            row["member"] = member
        row |= {name: value for name, value in outcome._asdict().items() if name != "uri" and value is not None}
        rows.append(row)
    for path in sorted(states.keys() - of_files):
        rows.append({"path": path, **states[path]._asdict(), "outcome": ARCHIVE})
    return sorted(
        rows, key=lambda row: (row["path"], row.get("member") or "", row["outcome"], row.get("sha256") or "")
    )


def counted(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many rows there are of each outcome of an image."""
    counts = dict.fromkeys((outcomes.KEPT, outcomes.DUPLICATE, outcomes.REJECTED), 0)
    for row in rows:
        if row["outcome"] != ARCHIVE:
            counts[row["outcome"]] += 1
    return counts


def in_words(delivery: Delivery) -> Iterator[str]:
    """What a person should hear of it, a sentence each; nothing of files that are simply new."""
    for paths, one, several in (
        (
            delivery.changed,
            "has changed since it was ingested, and is read again",
            "have changed since they were ingested, and are read again",
        ),
        (
            delivery.late,
            "belongs to an earlier delivery than one that was ingested before",
            "belong to an earlier delivery than one that was ingested before",
        ),
        (
            delivery.unsettled,
            "is still being written, and is left for the next run",
            "are still being written, and are left for the next run",
        ),
        (
            delivery.vanished,
            "was ingested once and is there no more; what was kept of it stays",
            "were ingested once and are there no more; what was kept of them stays",
        ),
    ):
        if len(paths) == 1:
            yield f"{paths[0]} {one}"
        elif paths:
            yield f"{len(paths)} files {several}, such as {paths[0]}"


def _path_and_member(uri: str, by_uri: Mapping[str, str]) -> tuple[str, str | None]:
    """Splits `archive!member`, where either may hold further exclamation marks."""
    if uri in by_uri:
        return by_uri[uri], None
    at = uri.find("!")
    while at >= 0:
        if uri[:at] in by_uri:
            return by_uri[uri[:at]], uri[at + 1 :]
        at = uri.find("!", at + 1)
    raise RuntimeError(f"{uri} was read, which is in no file of the delivery")
