"""What changes colours, as SimCLR does (arXiv 2002.05709, appendix A): jitter and grayscale.

Shapes: B views of side S, planar: [B, 3, S, S] float32 in [0, 1]; keys [B, 2] uint32, those of the views.
"""

import tensorflow as tf

from trainer import planar, prng
from trainer.config import AugmentConfig

_OPS = 4
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(_OPS)


def jitter(x: tf.Tensor, keys: tf.Tensor, config: AugmentConfig) -> tf.Tensor:
    """Brightness, contrast, saturation and hue in a random order for each view, clipped after each."""
    draws = prng.uniform(keys, count=5, stream=prng.Stream.JITTER)
    change = 0.8 * config.jitter_strength * (2.0 * draws[:, :3] - 1.0)
    turn = 0.2 * config.jitter_strength * (2.0 * draws[:, 3] - 1.0)
    order = tf.argsort(prng.uniform(keys, count=_OPS, stream=prng.Stream.ORDER), axis=1)
    # Multiplied, an image moves away from black; added to, all its pixels move alike.
    additive = config.brightness == "additive"

    def apply(position: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        op = order[:, position]

        def change_of(*ops: int) -> tf.Tensor:
            value = tf.zeros_like(turn)
            for each in ops:
                value = tf.where(op == each, change[:, each], value)
            return planar.per_image(value)

        gray = planar.luma(x)
        mean = tf.reduce_mean(gray, axis=[2, 3], keepdims=True)
        # Contrast and saturation move the image away from a duller one: its mean gray, its own gray.
        scaled = (_CONTRAST, _SATURATION) if additive else (_BRIGHTNESS, _CONTRAST, _SATURATION)
        blend = (1.0 + change_of(*scaled)) * x - change_of(_SATURATION) * gray - change_of(_CONTRAST) * mean
        if additive:
            blend = blend + change_of(_BRIGHTNESS)
        return planar.choose(op == _HUE, turn_hue(x, turn), tf.clip_by_value(blend, 0.0, 1.0))

    return planar.choose(draws[:, 4] < config.jitter_probability, planar.in_turn(_OPS, apply, x), x)


def turn_hue(x: tf.Tensor, turn: tf.Tensor) -> tf.Tensor:
    """Turns the hue by [B] shares of the full circle, saturation and value as they are.

    The way to HSV and back, multiplied by chroma: each colour is piecewise linear in the hue, so no division is
    needed, which gray pixels would make one by zero.
    """
    red, green, blue = tf.split(x, 3, axis=1)
    value = tf.maximum(tf.maximum(red, green), blue)
    chroma = value - tf.minimum(tf.minimum(red, green), blue)
    # Six times hue times chroma: sixths of the circle counted from red, −1 … 5 chromas.
    of_green, of_blue = blue - red + 2.0 * chroma, red - green + 4.0 * chroma
    hue = tf.where(value == red, green - blue, tf.where(value == green, of_green, of_blue))
    shift = tf.math.floormod(tf.constant([5.0, 3.0, 1.0]) + 6.0 * turn[:, None], 6.0)
    angle = hue + shift[:, :, None, None] * chroma
    angle = tf.where(angle >= 6.0 * chroma, angle - 6.0 * chroma, angle)
    return value - tf.clip_by_value(tf.minimum(angle, 4.0 * chroma - angle), 0.0, chroma)


def grayscale(x: tf.Tensor, keys: tf.Tensor, *, probability: float) -> tf.Tensor:
    """Turns a share of the views gray, and clips: hue and luma can leave the interval by a rounding."""
    chosen = prng.chosen(keys, probability=probability, stream=prng.Stream.GRAY)

    def apply(step: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        return tf.clip_by_value(planar.choose(chosen & (step == 0), planar.luma(x), x), 0.0, 1.0)

    # The second step changes nothing: a loop alone keeps XLA from computing the gray again for each tap of the blur.
    return planar.in_turn(2, apply, x)
