"""What a stage hands on: weights without pickle for the next stage, and a SavedModel that takes encoded bytes."""

import functools
import json
import os
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from trainer import heads, images, resnet, weights
from trainer.config import EncoderConfig, HeadConfig, PretrainConfig

EXTRA = "assets.extra"  # the folder of a SavedModel that is free for files of one's own
_ENCODER, _HEAD = "encoder.safetensors", "head.safetensors"
_CLASSIFIER, _CLASSIFIER_CONFIG = "classifier.safetensors", "classifier.json"
_ENCODER_CONFIG, _HEAD_CONFIG = "encoder.json", "head.json"
CLASSES = "classes.json"
_UNKNOWN_CLASS = -1
_AUTOGRAPH = False  # no function here branches on a tensor, and converting Keras' own code takes seconds
_ENCODED = tf.TensorSpec([None], tf.string, name="image_bytes")


class ServedEncoder(tf.Module):
    """An encoder behind its preprocessing: encoded images in, h out.

    No Python of ours is needed to load what this saves: all of it is in the graph.
    """

    def __init__(self, model: tf_keras.Model, preprocessing: Any, *, size_px: int | None = None) -> None:
        """
        Args:
            model: images [B, S, S, 3] → h.
            preprocessing: callable from {"image_bytes": [B, 1] string} to {"image": [B] string}, canonical PNGs; a
                trackable object, since it may hold variables and tables.
            size_px: S, for a model of images of any size; None is the model's own.

        Raises:
            ValueError: neither the model nor `size_px` says a size.
        """
        super().__init__()
        # Not the Keras model: of one that it tracks a SavedModel holds every layer's functions, each traced for it.
        self._network, self._variables = functools.partial(model, training=False), model.variables
        self._preprocessing = preprocessing
        if size_px is None and model.input_shape[1] is None:
            raise ValueError("size_px None: a model of images of any size must be served at one; give its size_px")
        self._size_px = size_px or model.input_shape[1]

    @tf.function(input_signature=[_ENCODED], autograph=_AUTOGRAPH)
    def preprocess(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """What the network sees: [B] encoded images → [B, S, S, 3] float32 in [0, 1]."""
        canonical = self._preprocessing({"image_bytes": image_bytes[:, None]})["image"]

        def view(png: tf.Tensor) -> tf.Tensor:
            return images.evaluation_view(images.decode_png(png), size_px=self._size_px)

        signature = tf.TensorSpec([self._size_px, self._size_px, 3], tf.float32)
        return {"image": tf.map_fn(view, canonical, fn_output_signature=signature)}

    @tf.function(input_signature=[_ENCODED], autograph=_AUTOGRAPH)
    def embed(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """[B] encoded images → h [B, D]."""
        return {"embedding": self._network(self.preprocess(image_bytes)["image"])}

    @property
    def signatures(self) -> dict[str, Any]:
        """The functions by the names that a server knows them by."""
        return {"serving_default": self.embed, "embed": self.embed, "preprocess": self.preprocess}


class ServedClassifier(ServedEncoder):
    """A classifier behind its preprocessing: encoded images in, class probabilities and h out."""

    def __init__(
        self, model: tf_keras.Model, preprocessing: Any, *, classes: Sequence[str], size_px: int | None = None
    ) -> None:
        """
        Args:
            model: images [B, S, S, 3] → (logits [B, C], h [B, D]).
            preprocessing: as of `ServedEncoder`.
            classes: names in the order of the logits.
            size_px: as of `ServedEncoder`.
        """
        super().__init__(model, preprocessing, size_px=size_px)
        self._classes = tf.constant(list(classes))
        indices = tf.range(len(classes), dtype=tf.int64)
        self._class_index = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(self._classes, indices), default_value=_UNKNOWN_CLASS
        )

    @tf.function(input_signature=[_ENCODED], autograph=_AUTOGRAPH)
    def embed(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """[B] encoded images → h [B, D]."""
        _, h = self._network(self.preprocess(image_bytes)["image"])
        return {"embedding": h}

    @tf.function(input_signature=[_ENCODED], autograph=_AUTOGRAPH)
    def classify(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """[B] encoded images → probabilities [B, C], the likeliest class [B] and h [B, D]."""
        logits, h = self._network(self.preprocess(image_bytes)["image"])
        label = tf.gather(self._classes, tf.argmax(logits, axis=1))
        return {"probabilities": tf.nn.softmax(logits), "label": label, "embedding": h}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="label")], autograph=_AUTOGRAPH)
    def transformed_labels(self, label: tf.Tensor) -> dict[str, tf.Tensor]:
        """Class names [B] → indices [B]; TFMA calls a signature of this name to read the labels it compares with."""
        return {"label_index": self._class_index.lookup(tf.reshape(label, [-1]))}

    @property
    def signatures(self) -> dict[str, Any]:
        """The functions by the names that a server, or TFMA, knows them by."""
        own = {"serving_default": self.classify, "transformed_labels": self.transformed_labels}
        return {**super().signatures, **own}


def save_served(served: ServedEncoder, path: str) -> None:
    """Writes a SavedModel with its signatures."""
    tf.saved_model.save(served, path, signatures=served.signatures)


def save_classes(classes: Sequence[str], path: str) -> None:
    """Writes the class names, in the order of the probabilities, beside a SavedModel's own files."""
    _write_json(_extra(path, CLASSES), list(classes))


def save_encoder(encoder: tf_keras.Model, config: EncoderConfig, path: str) -> None:
    """Writes an encoder's weights and description into a SavedModel's folder for files of one's own."""
    tf.io.gfile.makedirs(os.path.join(path, EXTRA))
    weights.save({"": encoder}, _extra(path, _ENCODER))
    description = {"size_px": encoder.input_shape[1], "encoder": config.model_dump(mode="json")}
    _write_json(_extra(path, _ENCODER_CONFIG), description)


def load_encoder(path: str) -> tuple[tf_keras.Model, EncoderConfig]:
    """Reads what `save_encoder` wrote.

    Raises:
        ValueError: a tensor is missing, or its shape is not that of the described network.
    """
    description = _read_json(_extra(path, _ENCODER_CONFIG))
    config = EncoderConfig.model_validate_json(json.dumps(description["encoder"]))
    encoder = resnet.build_encoder(config, size_px=description["size_px"], seed=0)
    weights.load({"": encoder}, _extra(path, _ENCODER))
    return encoder, config


def save_head(head: tf_keras.Model, config: HeadConfig, path: str) -> None:
    """Writes a projection head beside its encoder: fine-tuning may keep its first layers."""
    tf.io.gfile.makedirs(os.path.join(path, EXTRA))
    weights.save({"": head}, _extra(path, _HEAD))
    _write_json(
        _extra(path, _HEAD_CONFIG), {"input_dim": head.input_shape[-1], "head": config.model_dump(mode="json")}
    )


def load_head(path: str) -> tuple[tf_keras.Model, HeadConfig]:
    """Reads what `save_head` wrote.

    Raises:
        ValueError: a tensor is missing, or its shape is not that of the described head.
    """
    description = _read_json(_extra(path, _HEAD_CONFIG))
    config = HeadConfig.model_validate_json(json.dumps(description["head"]))
    head = heads.projection_head(config, input_dim=description["input_dim"], seed=0)
    weights.load({"": head}, _extra(path, _HEAD))
    return head, config


def load_pretrained(path: str, *, encoder: tf_keras.Model, head: tf_keras.Model) -> None:
    """Reads the weights that `save_encoder` and `save_head` wrote into networks that are there already.

    Raises:
        ValueError: the networks are others than those that were saved; neither has changed then.
    """
    encoder_path, head_path = pretrained_weights(path)
    before = encoder.get_weights()
    weights.load({"": encoder}, encoder_path)
    try:
        weights.load({"": head}, head_path)
    except ValueError:
        encoder.set_weights(before)
        raise


def pretrained_weights(path: str) -> tuple[str, str]:
    """Where the weights of encoder and head are in a folder that a pretraining left."""
    return _extra(path, _ENCODER), _extra(path, _HEAD)


def pretrained_files(path: str) -> tuple[str, ...]:
    """Encoder and head in a folder that a pretraining left: weights and descriptions."""
    return (*pretrained_weights(path), _extra(path, _ENCODER_CONFIG), _extra(path, _HEAD_CONFIG))


def has_pretrained(path: str) -> bool:
    """Whether a folder holds encoder and head, whole."""
    return all(tf.io.gfile.exists(file) for file in pretrained_files(path))


def describe_pretrained(path: str) -> dict[str, Any]:
    """The architecture of what a pretraining left: `size_px`, `encoder` and `head`, as JSON values."""
    described = _read_json(_extra(path, _ENCODER_CONFIG))
    return {**described, "head": _read_json(_extra(path, _HEAD_CONFIG))["head"]}


def description(config: PretrainConfig) -> dict[str, Any]:
    """The architecture that a pretraining will leave, to be held against `describe_pretrained`.

    Args:
        config: with the size of its images.
    """
    return {
        "size_px": config.augment.crop.size_px,
        "encoder": config.encoder.model_dump(mode="json"),
        "head": config.head.model_dump(mode="json"),
    }


def save_classifier(
    model: tf_keras.Model,
    path: str,
    *,
    encoder: EncoderConfig,
    classes: Sequence[str],
    head: HeadConfig | None = None,
    head_layer: int = 0,
) -> None:
    """Writes a classifier's weights and description, which `load_classifier` reads; distillation teaches with it.

    Args:
        model: as `heads.classifier_on` makes it.
        path: of the model's folder.
        encoder: its encoder's settings.
        classes: names in the order of the logits.
        head: settings of the projection head whose first layers it keeps, if it keeps any.
        head_layer: how many.
    """
    tf.io.gfile.makedirs(os.path.join(path, EXTRA))
    weights.save({"": model}, _extra(path, _CLASSIFIER))
    description = {
        "size_px": model.input_shape[1],
        "encoder": encoder.model_dump(mode="json"),
        "head": head and head.model_dump(mode="json"),
        "head_layer": head_layer,
        "classes": list(classes),
    }
    _write_json(_extra(path, _CLASSIFIER_CONFIG), description)


def load_classifier(path: str) -> tuple[tf_keras.Model, EncoderConfig, tuple[str, ...]]:
    """Reads what `save_classifier` wrote: the model images → (logits, h), its encoder's settings, its classes.

    Raises:
        ValueError: a tensor is missing, or its shape is not that of the described network.
    """
    description = _read_json(_extra(path, _CLASSIFIER_CONFIG))
    config = EncoderConfig.model_validate_json(json.dumps(description["encoder"]))
    encoder = resnet.build_encoder(config, size_px=description["size_px"], seed=0)
    kept = None
    if description["head_layer"]:
        head = HeadConfig.model_validate_json(json.dumps(description["head"]))
        whole = heads.projection_head(head, input_dim=encoder.output_shape[-1], seed=0)
        kept = heads.kept_layers(whole, description["head_layer"])
    classes = tuple(description["classes"])
    model = heads.classifier_on(encoder, n_classes=len(classes), kept=kept)
    weights.load({"": model}, _extra(path, _CLASSIFIER))
    return model, config, classes


def load_network(path: str) -> tuple[tf_keras.Model, tuple[str, ...]]:
    """Reads what `save_classifier` or `save_encoder` wrote: the model, and its classes if it has any.

    Raises:
        ValueError: neither is there, or the weights do not fit the described network.
    """
    if tf.io.gfile.exists(_extra(path, _CLASSIFIER_CONFIG)):
        model, _, classes = load_classifier(path)
        return model, classes
    if tf.io.gfile.exists(_extra(path, _ENCODER_CONFIG)):
        return load_encoder(path)[0], ()
    raise ValueError(
        f"{path} holds neither an encoder nor a classifier: "
        "give a folder that `pretrain`, `finetune` or `distill` wrote"
    )


def load_networks(path: str) -> dict[str, tf_keras.Model]:
    """Reads all networks in a folder, each by the name that its weights go under: `encoder` and `head`, or ``.

    Raises:
        ValueError: as of `load_network`.
    """
    model, classes = load_network(path)
    if classes:
        return {"": model}
    head = {"head": load_head(path)[0]} if tf.io.gfile.exists(_extra(path, _HEAD_CONFIG)) else {}
    return {"encoder": model} | head


def save_for_serving(path: str, output: str) -> None:
    """Writes what the trainer left in a folder as a SavedModel, behind the preprocessing of image folders.

    Args:
        path: as of `load_network`.
        output: folder of the SavedModel.

    Raises:
        ValueError: as of `load_network`.
    """
    model, classes = load_network(path)
    preprocessing = folder_preprocessing(size_px=model.input_shape[1])
    if classes:
        save_served(ServedClassifier(model, preprocessing, classes=classes), output)
        save_classes(classes, output)
    else:
        save_served(ServedEncoder(model, preprocessing), output)


def folder_preprocessing(*, size_px: int) -> Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]:
    """What happens to the images of a folder before their view is made, for `ServedEncoder`."""

    def preprocess(features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        encoded = tf.reshape(features["image_bytes"], [-1])
        return {"image": images.canonical_png(encoded, short_side_px=tf.constant(size_px))}

    return preprocess


def _extra(path: str, name: str) -> str:
    return os.path.join(path, EXTRA, name)


def _read_json(path: str) -> Any:
    try:
        with tf.io.gfile.GFile(path) as file:
            return json.load(file)
    except tf.errors.NotFoundError as error:
        raise ValueError(
            f"{path} is not there: give a folder that the command wrote to its end which makes such models"
        ) from error
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): make it anew") from error


def _write_json(path: str, value: Any) -> None:
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.gfile.GFile(path, "w") as file:
        json.dump(value, file, ensure_ascii=False, indent=1)
