"""Which test images a pushed model answers right, from nothing but its SavedModel and encoded test images."""

import collections
import dataclasses
import hashlib
import json
import posixpath
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from tfx.dsl.io import fileio

CLASSES_FILE = "assets.extra/classes.json"
_BATCH_SIZE = 256
# What says that a file is not there or holds something else. Not tf.errors.DataLossError: TensorFlow raises it for
# weights that it may not read just now, too.
_MISSING_OR_MALFORMED = (FileNotFoundError, ValueError, tf.errors.NotFoundError)


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A loaded SavedModel whose `serving_default` takes encoded images."""

    model: Any  # kept alive: signatures hold its variables by weak reference only
    classes: list[str]

    def predict(self, image_bytes: tf.Tensor) -> list[str]:
        """Names the most probable class of each image: string [batch] of encoded images → [batch] names."""
        probabilities = self.model.signatures["serving_default"](image_bytes=image_bytes)["probabilities"]
        return [self.classes[index] for index in np.argmax(probabilities.numpy(), axis=-1)]


@dataclasses.dataclass(frozen=True)
class Scored:
    """A model's answers to a test set of n images.

    Attributes:
      right: [n] bool.
      keys: [n], of the images, in the same order.
      test_set: hex digest of the images' keys, labels and contents, in whatever order they were read.
    """

    right: np.ndarray
    keys: list[str]
    test_set: str

    @property
    def top1(self) -> float:
        """Accuracy in [0, 1]."""
        return float(self.right.mean())


def load_classifier(model_path: str) -> Classifier:
    """Loads a SavedModel to score.

    Args:
      model_path: directory of the SavedModel, with the class names in assets.extra/classes.json.

    Raises:
      ValueError: if a file of it is missing or malformed, or it has another signature or no class names.
      OSError, tf.errors.OpError, LookupError: TensorFlow's own, of a file that cannot be read, and of much damage.
    """
    rule = (
        "A pushed model is a SavedModel whose signature serving_default maps image_bytes to probabilities, "
        f"with {CLASSES_FILE}"
    )
    try:
        with fileio.open(posixpath.join(model_path, CLASSES_FILE), "r") as file:
            classes = json.load(file)
        model = tf.saved_model.load(model_path)
    except _MISSING_OR_MALFORMED as error:
        raise ValueError(f"{rule}; {model_path} cannot be loaded: {error}") from error
    signature = model.signatures.get("serving_default")
    if signature is None:
        raise ValueError(f"{rule}; {model_path} has the signatures {sorted(model.signatures)}.")
    inputs, outputs = signature.structured_input_signature[1], signature.structured_outputs
    if "image_bytes" not in inputs or "probabilities" not in outputs:
        raise ValueError(f"{rule}; {model_path} maps {sorted(inputs)} to {sorted(outputs)}.")
    n_columns = outputs["probabilities"].shape[-1]
    if n_columns not in (None, len(classes)):
        raise ValueError(f"{rule}; {model_path} has {n_columns} probabilities for {len(classes)} classes.")
    return Classifier(model, classes)


def score(classifier: Classifier, split_uri: str) -> Scored:
    """Answers labelled examples.

    Args:
      classifier: with `serving_default(image_bytes=string [batch])["probabilities"]` of shape [batch, classes].
      split_uri: directory of TFRecords of tf.Example with `key`, `image_bytes` and `label`.

    Raises:
      ValueError: if there are no examples, or two of one key.
    """
    right, keys, images = [], [], []
    for image_bytes, labels, batch_keys in _batches(split_uri):
        predictions = classifier.predict(image_bytes)
        right += [predicted == label for predicted, label in zip(predictions, labels, strict=True)]
        keys += batch_keys
        for key, label, content in zip(batch_keys, labels, image_bytes.numpy(), strict=True):
            images.append(f"{key}\0{label}\0{hashlib.sha256(content).hexdigest()}\n")
    if not keys:
        raise ValueError(f"A push compares models on test images; {split_uri} holds none. Add a test split.")
    if len(set(keys)) < len(keys):
        twice = sorted(key for key, count in collections.Counter(keys).items() if count > 1)
        raise ValueError(f"Test images have keys of their own; {split_uri} has {twice[:5]} more than once.")
    digest = hashlib.sha256("".join(sorted(images)).encode()).hexdigest()
    return Scored(np.array(right, bool), keys, digest)


def _batches(split_uri: str) -> Iterator[tuple[tf.Tensor, list[str], list[str]]]:
    files = sorted(fileio.glob(posixpath.join(split_uri, "*")))
    features = {name: tf.io.FixedLenFeature([], tf.string) for name in ("image_bytes", "label", "key")}
    for path in files:
        records = tf.data.TFRecordDataset(path, compression_type="GZIP" if path.endswith(".gz") else "")
        for batch in records.batch(_BATCH_SIZE):
            parsed = tf.io.parse_example(batch, features)
            labels, keys = ([value.decode() for value in parsed[name].numpy()] for name in ("label", "key"))
            yield parsed["image_bytes"], labels, keys
