"""Sets of images made from others: with fewer labels, or with those of another set."""

import dataclasses
from dataclasses import dataclass
from itertools import takewhile

import tensorflow as tf

from trainer import label_fractions
from trainer.folders import ImageFolder
from trainer.sources import UNLABELED, Example, ExampleFiles, RecordFiles

# Before a record: whether its label counts.
_LABEL_COUNTS, _NO_LABEL = "+", "-"
_WHOLE_RECORD = 2**31 - 1


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


def with_labels_of(files: ExampleFiles, labeled: ExampleFiles) -> ExampleFiles:
    """The images of both, with the labels of the second and no others.

    A file that is in both folders is there once. Records are not compared: an image in both sets of them is there
    twice, once with its label.

    Raises:
        ValueError: one is a folder, the other records.
    """
    if isinstance(files, RecordFiles) and isinstance(labeled, RecordFiles):
        return _joined_records(files, labeled)
    if not (isinstance(files, ImageFolder) and isinstance(labeled, ImageFolder)):
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


@dataclass(frozen=True, kw_only=True, eq=False)
class _JoinedRecords(ExampleFiles):
    """Records of two sets, of which the second's labels count; a reference is a mark and a record."""

    unlabeled: RecordFiles
    labeled: RecordFiles

    @property
    def identity(self) -> str:
        return f"{self.unlabeled.identity}+{self.labeled.identity}"

    def in_order(self) -> tf.data.Dataset:
        labeled = _marked(self.labeled.in_order(), _LABEL_COUNTS)
        return _marked(self.unlabeled.in_order(), _NO_LABEL).concatenate(labeled)

    def shuffled(self, order_key: tf.Tensor) -> tf.data.Dataset:
        return self._spread(self.unlabeled.shuffled(order_key), self.labeled.shuffled(order_key), self.count)

    def sample(self, count: int, order_key: tf.Tensor) -> tf.data.Dataset:
        n_labeled = count * self.labeled.count // self.count
        labeled = self.labeled.sample(max(n_labeled, 1), order_key)
        return self._spread(self.unlabeled.sample(count - n_labeled, order_key), labeled, count)

    def read(self, reference: tf.Tensor) -> Example:
        example = self.unlabeled.read(tf.strings.substr(reference, 1, _WHOLE_RECORD))
        counts = tf.strings.substr(reference, 0, 1) == _LABEL_COUNTS
        return example | {"label": tf.where(counts, example["label"], tf.constant(UNLABELED, tf.int64))}

    def _spread(self, unlabeled: tf.data.Dataset, labeled: tf.data.Dataset, count: int) -> tf.data.Dataset:
        """Both in turn, by their sizes: each batch then has as many labels as the next."""

        def is_labeled(position: tf.Tensor) -> tf.Tensor:
            before, after = (number * self.labeled.count // self.count for number in (position, position + 1))
            return after - before

        turns = tf.data.Dataset.range(count).map(is_labeled)
        both = [_marked(unlabeled, _NO_LABEL), _marked(labeled, _LABEL_COUNTS)]
        return tf.data.Dataset.choose_from_datasets(both, turns, stop_on_empty_dataset=False)


def _marked(records: tf.data.Dataset, mark: str) -> tf.data.Dataset:
    return records.map(lambda record: tf.strings.join([mark, record]))


def _joined_records(files: RecordFiles, labeled: RecordFiles) -> _JoinedRecords:
    return _JoinedRecords(
        count=files.count + labeled.count,
        short_side_px=min(files.short_side_px, labeled.short_side_px),
        canvas_px=tuple(max(sides) for sides in zip(files.canvas_px, labeled.canvas_px, strict=True)),
        unlabeled=files,
        labeled=labeled,
    )
