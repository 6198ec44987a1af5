"""What the labelled examples hold: the keys of each class in each split, and whether a split of them makes sense."""

import dataclasses
from collections import Counter
from collections.abc import Iterable

from trainer.enumeration import first_few

TRAIN_SPLIT = "train"


@dataclasses.dataclass(frozen=True)
class ClassKeys:
    """The examples of one class in one split."""

    split: str
    label: str
    label_index: int
    keys: list[str]


def ordered_classes(inventory: Iterable[ClassKeys]) -> list[str]:
    """Lists the classes by their index, after having made sure that training examples of each exist.

    Args:
      inventory: one entry for each split and class.

    Returns:
      Class names; the place in the list is the label index.

    Raises:
      ValueError: for one class only, a class without training examples, an index with several names, or a
        repeated key.
    """
    trained, others = [], []
    for entry in inventory:
        (trained if entry.split == TRAIN_SPLIT else others).append(entry)
    if not trained:
        raise ValueError(f"The {TRAIN_SPLIT!r} split holds no example. Give the pipeline labelled training images.")
    names = {entry.label for entry in trained}
    for entry in others:
        if entry.label not in names:
            raise ValueError(
                f"The class {entry.label!r} has {len(entry.keys)} example(s) in the {entry.split!r} split and none "
                f"in the {TRAIN_SPLIT!r} split. Each class needs at least one training example: there is none to "
                "choose from, and its test images could only count as errors. Add labelled training images of it, "
                "or take it out of the test set."
            )
    for entry in trained:
        _check_keys_differ(entry)
    classes = _by_index(trained)
    if len(classes) == 1:
        raise ValueError(
            f"All {len(trained[0].keys)} labelled training images are of the class {classes[0]!r}; two classes are "
            "the least that can be told apart. Give labelled images of others, or correct the labels."
        )
    return classes


def _by_index(trained: list[ClassKeys]) -> list[str]:
    by_index = {entry.label_index: entry.label for entry in trained}
    if min(by_index) < 0 or len(by_index) < len(trained) or len(set(by_index.values())) < len(trained):
        of_index = Counter(entry.label_index for entry in trained)
        of_label = Counter(entry.label for entry in trained)
        odd = [
            f"{entry.label_index} for {entry.label!r}"
            for entry in sorted(trained, key=lambda entry: (entry.label_index, entry.label))
            if entry.label_index < 0 or of_index[entry.label_index] > 1 or of_label[entry.label] > 1
        ]
        raise ValueError(
            f"Each class has one label index of its own, from 0 on; received {first_few(odd)}. "
            "Let Transform compute the vocabulary over all training labels."
        )
    for index in range(max(by_index)):
        if index not in by_index:
            raise ValueError(
                f"The class with label index {index} is in the vocabulary, but no training example has it, so that "
                "no fraction of the labels can hold it. Add labelled training images of it, or take it out of the "
                "vocabulary."
            )
    return [by_index[index] for index in range(len(by_index))]


def _check_keys_differ(entry: ClassKeys) -> None:
    key, count = Counter(entry.keys).most_common(1)[0]
    if count > 1:
        raise ValueError(
            f"Keys of examples are unique; {count} training examples of the class {entry.label!r} have the key "
            f"{key!r}. Ingest the images again: it keeps exact duplicates once and names the rest apart."
        )
