"""The `preprocessing_fn` of the stock Transform: canonical images, label indices, statistics. No augmentation.

The graph that this traces is the one that serves: training reads what it wrote, serving runs it on the request.
"""

from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

from trainer import images

LABEL_VOCABULARY = "label_vocabulary"


def preprocessing_fn(inputs: dict[str, Any], custom_config: dict[str, Any]) -> dict[str, tf.Tensor]:
    """Raw examples → `image` (PNG), `key`, and `label` and `label_index` where there are labels.

    Args:
        inputs: features of a batch of raw examples.
        custom_config: `short_side_px` > 0, or 0 for the median of the data, at most `max_short_side_px`.

    Returns:
        Features of [B]; no image is ever stored as floats.
    """
    image = _column(inputs["image_bytes"])
    outputs = {
        "image": images.canonical_png(image, short_side_px=_short_side_px(inputs, custom_config)),
        "key": _column(inputs["key"]),
    }
    if "label" in inputs:
        outputs["label"] = _column(inputs["label"])
        outputs["label_index"] = tft.compute_and_apply_vocabulary(outputs["label"], vocab_filename=LABEL_VOCABULARY)
    return outputs


def _short_side_px(inputs: dict[str, Any], custom_config: dict[str, Any]) -> tf.Tensor:
    if custom_config["short_side_px"]:
        return tf.constant(custom_config["short_side_px"])
    sides = tf.minimum(_column(inputs["width"]), _column(inputs["height"]))
    median = tft.quantiles(sides, num_buckets=2, epsilon=0.01)[0, 0]
    return tf.minimum(tf.cast(median, tf.int32), custom_config["max_short_side_px"])


def _column(feature: Any) -> tf.Tensor:
    """A feature with one value per example as [B], however its schema said it is stored."""
    dense = tf.sparse.to_dense(feature) if isinstance(feature, tf.SparseTensor) else feature
    return tf.reshape(dense, [-1])
