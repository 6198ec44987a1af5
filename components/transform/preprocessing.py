"""The `preprocessing_fn` of the stock Transform: canonical images, label indices, statistics. No augmentation.

The graph that this traces is the one that serves: training reads what it wrote, serving runs it on the request.
"""

from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

from trainer import images

LABEL_VOCABULARY = "label_vocabulary"
# Of a large image every n-th pixel tells as much, and a photograph as floats takes a gigabyte.
_SAMPLED_SIDE_PX = 64


def preprocessing_fn(inputs: dict[str, Any], custom_config: dict[str, Any]) -> dict[str, tf.Tensor]:
    """Raw examples → `image` (PNG), `key`, statistics of the channels, and `label` and `label_index` if labelled.

    Args:
        inputs: features of a batch of raw examples.
        custom_config: `short_side_px` > 0, or 0 for the median of the data, at most `max_short_side_px`.

    Returns:
        Features of [B], no image ever as floats; `channel_mean` and `channel_std` [B, 3], the same in every row.
    """
    image = _column(inputs["image_bytes"])
    outputs = {
        "image": images.canonical_png(image, short_side_px=_short_side_px(inputs, custom_config)),
        "key": _column(inputs["key"]),
    }
    outputs |= _channel_statistics(image)
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


def _channel_statistics(encoded: tf.Tensor) -> dict[str, tf.Tensor]:
    """Mean and standard deviation of red, green and blue in [0, 1] over the analysed images, each counted alike.

    SimCLR does not normalise; they tell a reader what the images are like, and a trainer of another method how to.
    They are of the images as ingested: what depends on another analyzer, as the stored size does, is a second pass,
    which TFX's Transform cannot make under the Beam of its release.
    """

    def moments(image_bytes: tf.Tensor) -> tf.Tensor:
        image = tf.io.decode_image(image_bytes, channels=3, expand_animations=False)
        image.set_shape([None, None, 3])
        step = tf.maximum(tf.reduce_min(tf.shape(image)[:2]) // _SAMPLED_SIDE_PX, 1)
        pixels = tf.cast(image[::step, ::step], tf.float32) / 255.0
        return tf.stack([tf.reduce_mean(pixels, [0, 1]), tf.reduce_mean(tf.square(pixels), [0, 1])])

    of_each = tf.map_fn(moments, encoded, fn_output_signature=tf.TensorSpec([2, 3], tf.float32))
    mean, mean_square = tf.unstack(tft.mean(of_each, reduce_instance_dims=False))
    deviation = tf.sqrt(tf.maximum(mean_square - tf.square(mean), 0.0))
    rows = [tf.shape(encoded)[0], 1]
    return {"channel_mean": tf.tile(mean[None], rows), "channel_std": tf.tile(deviation[None], rows)}


def _column(feature: Any) -> tf.Tensor:
    """A feature with one value per example as [B], however its schema said it is stored."""
    dense = tf.sparse.to_dense(feature) if isinstance(feature, tf.SparseTensor) else feature
    return tf.reshape(dense, [-1])
