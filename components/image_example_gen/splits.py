"""The split of each labelled image, kept beside the spans: what was trained on is never tested on, nor the reverse.

    splits/000001.json    by the sha256 of the file that was read, "train" or "test"

A key's hash says where a new image goes. It does not say that of a copy that comes under another name, nor of the one
image of a class that trains until the class has more of them.
"""

from collections.abc import Mapping

from components.span_ingest import kept

FOLDER = "splits"
_SPLITS = ("train", "test")
_IF_REMOVED = "images that were trained on may then be tested on"


def read(store: str) -> dict[str, str]:
    """Returns the split of each content that an earlier run has kept.

    Raises:
      DamagedError: what is kept is not what was written.
    """
    return kept.read(store, FOLDER, allowed=_SPLITS, if_removed=_IF_REMOVED)


def keep(store: str, found: Mapping[str, str]) -> None:
    """Keeps the split of each content, for good.

    Raises:
      DamagedError: what is kept is not what was written.
      RuntimeError: another run has meanwhile put one of them into the other split.
    """

    def agree(earlier: dict[str, str]) -> dict[str, str]:
        moved = sum(earlier.get(content, split) != split for content, split in found.items())
        if moved:
            raise RuntimeError(
                f"{store}/{FOLDER}: another run read other labels at the same time, and by it {moved} images are in "
                "the other split. Run again: that run's choice will be followed."
            )
        return dict(found)

    kept.settle(store, FOLDER, agree, allowed=_SPLITS, if_removed=_IF_REMOVED)
