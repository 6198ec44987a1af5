"""The images that a command is given by their paths: opened, and refused where its figures would mean nothing."""

import tensorflow as tf

from trainer import folders, sources
from trainer.enumeration import first_few_quoted


def images(path: str, size_px: int | None) -> sources.ExampleFiles:
    """A folder of image files, or a glob of TFRecords.

    Args:
        path: of them; may be on gs://.
        size_px: short side to which the images of a folder are resized; None: the shortest of all.

    Raises:
        ValueError: no image is there, or one cannot be read.
    """
    if tf.io.gfile.isdir(path):
        return folders.open_folder(path, short_side_px=size_px)
    if not tf.io.gfile.glob(path):
        raise ValueError(f"nothing is at {path}: give a folder of images, or a glob of TFRecords")
    return sources.open_examples([path])


def labeled(path: str, size_px: int | None, *, classes: tuple[str, ...] = ()) -> folders.ImageFolder:
    """A folder of class folders.

    Args:
        path: of it.
        size_px: as of `images`.
        classes: the folders that it must have; empty: whichever it has.

    Raises:
        ValueError: as of `images`, or there are no class folders, one only, or others.
    """
    files = images(path, size_px)
    if not files.classes:
        raise ValueError(f"{path} has no class folders: put the images of each class into a folder of its name")
    if len(files.classes) == 1:
        raise ValueError(
            f"{path} has one class folder only, {files.classes[0]!r}: labels tell nothing apart without another"
        )
    if classes and files.classes != classes:
        differing = sorted(set(files.classes) ^ set(classes))
        wanted = first_few_quoted(classes)
        raise ValueError(f"{path} must have the class folders {wanted}; differing: {first_few_quoted(differing)}")
    return files


def check_apart(test: sources.ExampleFiles, *trained_on: sources.ExampleFiles) -> None:
    """Compares what scores with what is trained on, byte for byte; records are not looked into.

    Raises:
        ValueError: an image is in both, under whatever name.
    """
    for files in trained_on:
        if not (isinstance(test, folders.ImageFolder) and isinstance(files, folders.ImageFolder)):
            continue
        if pairs := folders.in_both(test, files):
            more = f", and {len(pairs) - 1} more like it" if len(pairs) > 1 else ""
            raise ValueError(
                f"{pairs[0][0]} scores and is trained on as {pairs[0][1]}{more}: take them out of one of the two, or "
                "the score is of what was learned by heart"
            )
