"""Folders of images made from others: with fewer labels, or with those of another folder."""

import dataclasses
from itertools import takewhile

import tensorflow as tf

from trainer import label_fractions
from trainer.folders import ImageFolder
from trainer.sources import UNLABELED, ExampleFiles


def label_fraction(files: ImageFolder, fraction: float, *, seed: int) -> ImageFolder:
    """The labelled images of a share, the same share of each class by a hash of the names.

    Args:
        files: the images; those without a label are left out.
        fraction: in (0, 1]; a smaller one lies inside a larger one.
        seed: another seed, another choice.
    """
    names_by_class: dict[int, list[str]] = {}
    for name, label in zip(files.names, files.labels, strict=True):
        if label != UNLABELED:
            names_by_class.setdefault(label, []).append(name)
    # By the names of the classes, as the pipeline chooses: their order decides how shares are rounded.
    by_name = {files.classes[label]: names for label, names in names_by_class.items()}
    chosen = label_fractions.select(by_name, fraction, seed=seed)
    kept = {name for names in chosen.values() for name in names}
    rows = [row for row in zip(files.names, files.labels, files.checksums, strict=True) if row[0] in kept]
    names, labels, checksums = zip(*rows, strict=True)
    return dataclasses.replace(files, names=names, labels=labels, checksums=checksums, count=len(names))


def with_labels_of(files: ExampleFiles, labeled: ImageFolder) -> ImageFolder:
    """The images of both, with the labels of the second and no others; a file that is in both is there once.

    Raises:
        ValueError: the first is no folder.
    """
    if not isinstance(files, ImageFolder):
        raise ValueError("the images to be joined with labelled ones are records: they must be a folder of images")
    roots = (folder.root.rstrip("/").split("/") for folder in (files, labeled))
    shared = takewhile(lambda pair: pair[0] == pair[1], zip(*roots, strict=False))
    root = "".join(f"{segment}/" for segment, _ in shared)
    names, labeled_names = _names_below(root, files), _names_below(root, labeled)
    label_of = dict.fromkeys(names, UNLABELED) | dict(zip(labeled_names, labeled.labels, strict=True))
    checksums = [*files.checksums, *labeled.checksums]
    checksum_of = dict(zip([*names, *labeled_names], checksums, strict=True))
    return dataclasses.replace(
        files,
        root=root,
        names=tuple(label_of),
        labels=tuple(label_of.values()),
        checksums=tuple(checksum_of.values()),
        count=len(label_of),
        canvas_px=tuple(max(sides) for sides in zip(files.canvas_px, labeled.canvas_px, strict=True)),
        classes=labeled.classes,
    )


def _names_below(root: str, files: ImageFolder) -> list[str]:
    return [tf.io.gfile.join(files.root, name)[len(root) :] for name in files.names]
