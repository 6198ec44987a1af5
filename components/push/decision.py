"""Whether a model is pushed: only if it is blessed, new, and not worse than the champion by more than a margin."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from components.push import comparison
from components.push.comparison import Comparison, Rule
from components.push.fingerprint import fingerprint, is_as_pushed
from components.push.history import KEPT_BACK, PROMOTED, best_champion, is_withdrawn
from components.push.pointer import Entry
from components.push.rivals import again_if_overtaken
from components.push.scoring import Classifier, Scored, load_classifier, score
from components.push.versions import VersionedDirectory
from trainer.enumeration import first_few_quoted


@dataclasses.dataclass(frozen=True)
class Decision:
    """What became of a model; `decision.json` holds these fields.

    Attributes:
      blessed: the Evaluator blessed it and it isn't worse than the champion by more than allowed.
      reason: in words.
      pushed: absolute path of the version that holds it, if any.
      version: the number of that version.
      candidate_top1: accuracy on the test images, if it was measured.
      champion_top1: the champion's on the same images, if it was measured.
      champion_version: the champion that it met.
      comparison: of the two, with intervals, if both were measured.
      test_set: digest of the test images' keys, labels and contents, if they were read.
      test_set_changed: whether the champion was pushed on another test set; None if that is not known.
      best_version: of the champions so far that were promoted on this test set, the one that scored best; it decides
        nothing.
      best_top1: what that one scored.
    """

    blessed: bool
    reason: str
    pushed: str | None = None
    version: str | None = None
    candidate_top1: float | None = None
    champion_top1: float | None = None
    champion_version: str | None = None
    comparison: Comparison | None = None
    test_set: str | None = None
    test_set_changed: bool | None = None
    best_version: str | None = None
    best_top1: float | None = None


@again_if_overtaken
def push_model(
    model_path: str,
    *,
    blessed: bool,
    test_split_uri: str,
    destination: str,
    rule: Rule,
    record: Mapping[str, Any] | None = None,
    copies: Mapping[str, str] | None = None,
) -> Decision:
    """Pushes a model that deserves it into a versioned directory, and keeps the decision in its history.

    The two are compared by the names that they answer with, also where they know other classes. The champion gives
    way without a comparison only if it is gone or damaged: it serves nobody, and the Evaluator's absolute threshold
    has been passed all the same. One that is only out of reach does not. A version that somebody rolled back from
    does not come back by itself. Who is overtaken by another push decides again, and meets its champion.

    Args:
      model_path: directory of the SavedModel.
      blessed: the Evaluator's verdict.
      test_split_uri: labelled raw examples on which it meets the champion.
      destination: directory of the versions, local or remote.
      rule: of the comparison with the champion.
      record: what else to record with the version and in the history, JSON values.
      copies: files to keep with the version, see `VersionedDirectory.add`.

    Returns:
      What was decided and done. A model that is there already is not copied again.

    Raises:
      ValueError: if the model itself cannot be loaded or scored, or the test images change meanwhile.
      Exception: whatever keeps a champion that is as it was pushed from being loaded and scored; nothing is pushed.
    """
    directory = VersionedDirectory(destination)
    own_fingerprint = fingerprint(model_path)
    with directory.exclusive():
        history = directory.history()
        former, version = directory.champion(), directory.find(own_fingerprint)
        details = {"candidate": own_fingerprint, **(record or {})}
        if not blessed:
            verdict = Decision(blessed=False, reason="Not pushed: the Evaluator did not bless the model.")
        elif version is not None and version == former:
            directory.crown(version)  # a push that was killed may not have come to it
            return _as_pushed(version, directory)
        elif version is not None and is_withdrawn(history.entries(), version):
            verdict = _withdrawn(version, former)
        else:
            verdict = _meet_champion(model_path, directory, test_split_uri, rule)
            verdict = _beside_the_best(verdict, history.entries())
        if not verdict.blessed:
            history.append(KEPT_BACK, champion=former, former=former, **_told(verdict), **details)
            return verdict
        done, told = f"Already pushed as version {version}", {**_told(verdict), **details}
        if version is None:
            version = directory.add(model_path, model_fingerprint=own_fingerprint, record=told, copies=copies)
            done = f"Pushed as version {version}"
        else:
            directory.record_anew(version, told)
        verdict = dataclasses.replace(
            verdict, reason=f"{done}: {verdict.reason}", pushed=directory.path_of(version), version=str(version)
        )
        directory.crown(version)
        history.append(PROMOTED, champion=version, former=former, moved=True, **_told(verdict), **details)
    return verdict


def _told(verdict: Decision) -> dict[str, Any]:
    """The verdict as the history and the version's record tell it: where it lies is theirs to know."""
    values = dataclasses.asdict(verdict)
    return {name: value for name, value in values.items() if name not in ("blessed", "pushed", "version")}


def _as_pushed(version: int, directory: VersionedDirectory) -> Decision:
    """The champion again: what was decided when it was pushed, as far as its record tells."""
    at_that_time = Decision(blessed=True, reason="it is the champion.", champion_version=str(version))
    record = directory.record(version)
    if "reason" in record:
        names = {field.name for field in dataclasses.fields(Decision)} & record.keys()
        met = record.get("comparison")
        at_that_time = Decision(
            blessed=True,
            **{name: record[name] for name in names} | {"comparison": met if met is None else Comparison(**met)},
        )
    return dataclasses.replace(
        at_that_time,
        reason=f"Already pushed as version {version}: {at_that_time.reason}",
        pushed=directory.path_of(version),
        version=str(version),
    )


def _withdrawn(version: int, champion: int | None) -> Decision:
    reason = (
        f"Kept back: it is version {version}, from which somebody rolled back. If that was a mistake, "
        f"`python -m pipeline promote --version {version}` makes it the champion."
    )
    return Decision(blessed=False, reason=reason, champion_version=None if champion is None else str(champion))


def _meet_champion(model_path: str, directory: VersionedDirectory, test_split_uri: str, rule: Rule) -> Decision:
    candidate = load_classifier(model_path)
    scored = score(candidate, test_split_uri)
    met = Decision(blessed=True, reason="", candidate_top1=scored.top1, test_set=scored.test_set)
    version = directory.champion()
    if version is None:
        return dataclasses.replace(met, reason="there was no champion to compare with.")
    met = dataclasses.replace(met, champion_version=str(version))
    try:
        champion = load_classifier(directory.path_of(version))
    except Exception as error:
        # TensorFlow tells of damage as of a store that does not answer; the files say which of the two it is.
        if not isinstance(error, ValueError) and is_as_pushed(directory.path_of(version)):
            raise
        return dataclasses.replace(met, reason=f"the champion, version {version}, cannot be scored: {error}")
    champion_scored = score(champion, test_split_uri)
    _check_same_images(scored, champion_scored)
    found = comparison.compare(scored.right, champion_scored.right, rule)
    changed = _test_set_changed(directory.record(version), scored)
    met = dataclasses.replace(
        met,
        champion_top1=champion_scored.top1,
        comparison=found,
        test_set_changed=changed,
        blessed=comparison.is_not_worse(found, rule),
    )
    words = comparison.in_words(found, version)
    words = f"{words}." if met.blessed else f"Kept back: {words}; {comparison.why_not(found, rule)}."
    words += _other_classes(champion=champion, candidate=candidate)
    if changed:
        words += f" The test images are not those of the day when version {version} was pushed."
    return dataclasses.replace(met, reason=words)


def _beside_the_best(verdict: Decision, entries: Sequence[Entry]) -> Decision:
    """Says how far it is from the best champion so far: the margin is of the last one only, and adds up."""
    best = best_champion(entries, verdict.test_set)
    if best is None:
        return verdict
    version, top1 = best
    words = verdict.reason
    if str(version) != verdict.champion_version and top1 > verdict.candidate_top1:
        words += (
            f" The best champion so far on these images, version {version}, had {top1:.4f}: "
            f"this model is worse than that by {top1 - verdict.candidate_top1:.4f}."
        )
    return dataclasses.replace(verdict, reason=words, best_version=str(version), best_top1=top1)


def _check_same_images(scored: Scored, champion: Scored) -> None:
    if scored.keys != champion.keys or scored.test_set != champion.test_set:
        raise ValueError(
            "Candidate and champion are scored on the same images; between the one and the other the test split "
            f"has changed ({len(scored.keys)} images, then {len(champion.keys)}). Run Push again "
            "when nothing writes to it."
        )


def _test_set_changed(record: Mapping[str, Any], scored: Scored) -> bool | None:
    recorded = record.get("test_set")
    return None if recorded is None else recorded != scored.test_set


def _other_classes(*, champion: Classifier, candidate: Classifier) -> str:
    theirs, ours = set(champion.classes), set(candidate.classes)
    if theirs == ours:
        return ""
    knowing = {"the champion": theirs - ours, "the new model": ours - theirs}
    told = [f"only {who} knows {first_few_quoted(sorted(names))}" for who, names in knowing.items() if names]
    return f" Their classes differ: {', '.join(told)}; what a model has no name for it answers wrong."
