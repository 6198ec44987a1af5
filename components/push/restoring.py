"""Moves the champion's pointer by hand: back to the champion before, or to a version of one's choice."""

import dataclasses

from tfx.dsl.io import fileio

from components.push.history import PROMOTED, ROLLED_BACK, former_champions
from components.push.rivals import again_if_overtaken
from components.push.versions import VersionedDirectory


@dataclasses.dataclass(frozen=True)
class Change:
    """What became of the pointer.

    Attributes:
      champion: version that is it now.
      former: version that was it before; None if there was none.
    """

    champion: int
    former: int | None


@again_if_overtaken
def roll_back(destination: str) -> Change:
    """Makes the champion before this one the champion again; once more, and it is the one before that.

    The version that is left stays where it is. No push makes it the champion again; `promote` does.

    Args:
      destination: directory of the versions, local or remote.

    Raises:
      ValueError: there is no champion, or the history knows of none before it that is still there.
    """
    directory = VersionedDirectory(destination)
    _require_versions(directory)
    with directory.exclusive():
        history = directory.history()
        current, whole = directory.champion(), directory.versions()
        before = former_champions(history.entries(), current)
        target = next((version for version in before if version in whole), None)
        if target is None:
            known = f"those before it ({', '.join(map(str, before))}) are gone" if before else "there was none before"
            raise ValueError(
                f"A rollback needs a champion before version {current}; the history of {destination} says that "
                f"{known}. Promote another version by its number; there are {', '.join(map(str, whole))}."
            )
        directory.crown(target)
        reason = f"Rolled back by hand from version {current} to version {target}."
        history.append(ROLLED_BACK, champion=target, former=current, reason=reason, moved=True)
    return Change(target, current)


@again_if_overtaken
def promote(destination: str, version: int) -> Change:
    """Makes a version the champion, whatever it scores.

    Args:
      destination: directory of the versions, local or remote.
      version: its number.

    Raises:
      ValueError: there is no such version, whole.
    """
    directory = VersionedDirectory(destination)
    _require_versions(directory)
    with directory.exclusive():
        history = directory.history()
        former, whole = directory.champion(), directory.versions()
        if version not in whole:
            raise ValueError(
                f"A champion is a version that is there, whole; {destination} has {', '.join(map(str, whole))}, "
                f"and no {version}."
            )
        if version != former:
            directory.crown(version)
            reason = f"Promoted by hand: version {version} in place of version {former}."
            history.append(PROMOTED, champion=version, former=former, reason=reason, moved=True)
    return Change(version, former)


def _require_versions(directory: VersionedDirectory) -> None:
    """Before the lock, whose file would make a folder where there is none."""
    try:
        versions = directory.versions()
    except fileio.NotFoundError:  # without a word, where a file has its name
        versions = []
    if not versions:
        raise ValueError(f"There is no pushed model in {directory.path}. Name the folder that Push fills.")
