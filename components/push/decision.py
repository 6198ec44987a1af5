"""Whether a model is pushed: only if it is blessed, new, and no worse than the champion."""

import dataclasses

import tensorflow as tf

from components.push.fingerprint import fingerprint
from components.push.scoring import Classifier, load_classifier, top1_accuracy
from components.push.versions import VersionedDirectory

# Accuracies are multiples of one over the number of images; differences of them carry float error and no more.
_FLOAT_ERROR = 1e-9


@dataclasses.dataclass(frozen=True)
class Decision:
    """What became of a model; `decision.json` holds these fields.

    Attributes:
      blessed: the Evaluator blessed it and the champion isn't better by more than allowed.
      reason: in words.
      pushed: absolute path of the version that holds it, if any.
      version: the number of that version.
      candidate_top1: accuracy on the test images, if it was measured.
      champion_top1: the champion's on the same images, if it was measured.
      champion_version: the champion that it met.
    """

    blessed: bool
    reason: str
    pushed: str | None = None
    version: str | None = None
    candidate_top1: float | None = None
    champion_top1: float | None = None
    champion_version: str | None = None


def push_model(
    model_path: str, *, blessed: bool, test_split_uri: str, destination: str, max_regression: float
) -> Decision:
    """Pushes a model that deserves it into a versioned directory.

    The champion gives way if it cannot be scored or knows other classes: it serves nobody, or something else, and the
    Evaluator's absolute threshold has been passed all the same.

    Args:
      model_path: directory of the SavedModel.
      blessed: the Evaluator's verdict.
      test_split_uri: labelled raw examples on which it meets the champion.
      destination: directory of the versions, local or remote.
      max_regression: in [0, 1], by how much its top-1 may be below the champion's.

    Returns:
      What was decided and done. A model that is there already is not copied again.

    Raises:
      ValueError: if max_regression is out of range, or the model itself cannot be loaded or scored.
    """
    if not 0 <= max_regression <= 1:
        raise ValueError(f"max_regression is a difference of accuracies, from 0 to 1; received {max_regression}.")
    if not blessed:
        return Decision(blessed=False, reason="Not pushed: the Evaluator did not bless the model.")
    directory = VersionedDirectory(destination)
    own_fingerprint = fingerprint(model_path)
    with directory.exclusive():
        version = directory.find(own_fingerprint)
        if version is not None and version == directory.champion():
            verdict = Decision(blessed=True, reason="it is the champion", champion_version=str(version))
        else:
            verdict = _meet_champion(model_path, directory, test_split_uri, max_regression=max_regression)
        if not verdict.blessed:
            return verdict
        done = f"Already pushed as version {version}"
        if version is None:
            version = directory.add(model_path, model_fingerprint=own_fingerprint)
            done = f"Pushed as version {version}"
        directory.crown(version)
    return dataclasses.replace(
        verdict, reason=f"{done}: {verdict.reason}.", pushed=directory.path_of(version), version=str(version)
    )


def _meet_champion(
    model_path: str, directory: VersionedDirectory, test_split_uri: str, *, max_regression: float
) -> Decision:
    candidate = load_classifier(model_path)
    candidate_top1, n_images = top1_accuracy(candidate, test_split_uri)
    version = directory.champion()
    if version is None:
        return Decision(blessed=True, reason="there was no champion to compare with", candidate_top1=candidate_top1)
    met = Decision(blessed=True, reason="", candidate_top1=candidate_top1, champion_version=str(version))
    try:
        champion = load_classifier(directory.path_of(version))
        if set(champion.classes) != set(candidate.classes):
            return dataclasses.replace(met, reason=_other_classes(version, champion=champion, candidate=candidate))
        champion_top1, _ = top1_accuracy(champion, test_split_uri)
    except (ValueError, tf.errors.OpError) as error:
        return dataclasses.replace(met, reason=f"the champion, version {version}, cannot be scored: {error}")
    met = dataclasses.replace(met, champion_top1=champion_top1)
    comparison = (
        f"top-1 {candidate_top1:.4f} on {n_images} test images against {champion_top1:.4f} of the champion, "
        f"version {version}"
    )
    regression = champion_top1 - candidate_top1
    if regression > max_regression + _FLOAT_ERROR:
        return dataclasses.replace(
            met,
            blessed=False,
            reason=f"Kept back: {comparison}; worse by {regression:.4f}, max_regression allows {max_regression:.4f}.",
        )
    return dataclasses.replace(met, reason=comparison)


def _other_classes(version: int, *, champion: Classifier, candidate: Classifier) -> str:
    return (
        f"the champion, version {version}, has other classes and cannot be compared: "
        f"only it knows {sorted(set(champion.classes) - set(candidate.classes))}, "
        f"only the new model knows {sorted(set(candidate.classes) - set(champion.classes))}"
    )
