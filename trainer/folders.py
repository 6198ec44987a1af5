"""Folders of image files, and their labels by the names of the folders."""

import functools
import hashlib
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from trainer import images
from trainer.sources import UNLABELED, Example, IndexedExamples

_EXTENSIONS = (".jpg", ".jpeg", ".png", ".gif", ".bmp")
_HEADER_BYTES = 2**16
_READERS = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageFolder(IndexedExamples):
    """Image files below a folder, resized when they are read.

    Attributes:
        root: the folder.
        names: of the files, relative to it and with `/` between; they are the examples' keys.
        labels: of the files.
        checksums: of what was read of each file to measure it, the whole of a small one.
    """

    root: str
    names: tuple[str, ...]
    labels: tuple[int, ...]
    checksums: tuple[int, ...]

    @property
    def identity(self) -> str:
        rows = zip(self.labels, self.checksums, self.names, strict=True)
        text = "\n".join(f"{label} {checksum} {name}" for label, checksum, name in rows)
        return hashlib.sha256(text.encode()).hexdigest()

    def read(self, reference: tf.Tensor) -> Example:
        names, labels = self._tables
        name = tf.gather(names, reference)
        path = tf.strings.join([tf.io.gfile.join(self.root, ""), name])
        return {
            "image": images.canonical_image(tf.io.read_file(path), short_side_px=self.short_side_px),
            "key": name,
            "label": tf.gather(labels, reference),
        }

    @functools.cached_property
    def _tables(self) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.init_scope():  # a million names belong into no graph, which copies its constants
            return tf.constant(self.names), tf.constant(self.labels, tf.int64)

    def check(self) -> None:
        """Decodes every file.

        Raises:
            ValueError: one cannot be decoded; it is named.
        """
        with ThreadPoolExecutor(_READERS) as readers:
            for _ in readers.map(_decode_file, (tf.io.gfile.join(self.root, name) for name in self.names)):
                pass


def open_folder(path: str, *, short_side_px: int | None = None) -> ImageFolder:
    """Finds the JPEG, PNG, GIF and BMP files below a folder and measures them by their headers.

    The first folders on the way to the files are the classes, in alphabetic order; files directly in `path` have no
    label. Hidden files, and those with other endings, are passed over.

    Args:
        path: of the folder; may be on gs://.
        short_side_px: to which the images are resized as they are read; None: the shortest side of all of them.

    Raises:
        ValueError: there is no image, or a file that should be one is none; it is named.
    """
    names = tuple(sorted(_image_names(path)))
    if not names:
        raise ValueError(f"no image in {path} or below: its files must end in one of {', '.join(_EXTENSIONS)}")
    folders = [name.split("/")[0] if "/" in name else None for name in names]
    classes = tuple(sorted({folder for folder in folders if folder is not None}))
    index = {folder: label for label, folder in enumerate(classes)} | {None: UNLABELED}
    with ThreadPoolExecutor(_READERS) as readers:
        measured = readers.map(lambda name: _measured(tf.io.gfile.join(path, name)), names)
        sizes, checksums = zip(*measured, strict=True)
    sizes = np.array(sizes)
    short_side_px = short_side_px or int(sizes.min())
    canvas = tf.reduce_max(images.canonical_size(tf.constant(sizes), short_side_px=short_side_px), axis=0)
    return ImageFolder(
        root=path,
        names=names,
        labels=tuple(index[folder] for folder in folders),
        checksums=checksums,
        count=len(names),
        short_side_px=short_side_px,
        canvas_px=tuple(int(side) for side in canvas),
        classes=classes,
    )


def in_both(folder: ImageFolder, other: ImageFolder) -> list[tuple[str, str]]:
    """The images that are in both folders, byte for byte, under whatever names: pairs of their paths.

    Only files whose beginnings have one checksum are read.
    """
    by_checksum: dict[int, list[str]] = {}
    for name, checksum in zip(other.names, other.checksums, strict=True):
        by_checksum.setdefault(checksum, []).append(tf.io.gfile.join(other.root, name))
    pairs = [
        (tf.io.gfile.join(folder.root, name), path)
        for name, checksum in zip(folder.names, folder.checksums, strict=True)
        for path in by_checksum.get(checksum, ())
    ]
    with ThreadPoolExecutor(_READERS) as readers:
        return [pair for pair, same in zip(pairs, readers.map(_are_equal, pairs), strict=True) if same]


def _image_names(root: str) -> Iterator[str]:
    root = tf.io.gfile.join(root, "")
    for folder, _, names in tf.io.gfile.walk(root):
        for name in names:
            if name.lower().endswith(_EXTENSIONS) and not name.startswith("."):
                yield tf.io.gfile.join(folder, name)[len(root) :]


def _measured(path: str) -> tuple[tuple[int, int], int]:
    """Height and width of an image, and a checksum of what had to be read of its file."""
    with tf.io.gfile.GFile(path, "rb") as file:
        content = file.read(_HEADER_BYTES)
        try:
            return images.encoded_size(content), zlib.crc32(content)
        except ValueError:
            content += file.read()  # long metadata: the frame header comes later
        try:
            return images.encoded_size(content), zlib.crc32(content)
        except ValueError as error:
            raise _unreadable(path, error) from error


def _decode_file(path: str) -> None:
    try:
        tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
    except tf.errors.OpError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: Exception) -> ValueError:
    return ValueError(f"{path} is no image that can be read: mend it or take it away ({error})")


def _are_equal(paths: tuple[str, str]) -> bool:
    first, second = (tf.io.gfile.GFile(path, "rb") for path in paths)
    with first, second:
        return first.read() == second.read()
