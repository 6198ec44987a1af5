"""What looks at a pixel's neighbours or adds to it: blur, Sobel and noise (arXiv 2002.05709, figure 4, appendix A).

Shapes: B views of side S, planar: [B, 3, S, S] float32 in [0, 1]; keys [B, 2] uint32, those of the views.
"""

import math

import tensorflow as tf

from trainer import planar, prng

_BLUR_MIN_SIGMA_PX = 0.1  # 2002.05709, appendix A
_BLUR_STEPS = 2  # parts the kernel is summed up in, see `planar.in_turn`
_SOBEL_PEAK = 4.0  # its answer to a step from 0 to 1


def blur(x: tf.Tensor, keys: tf.Tensor, *, probability: float, max_sigma_px: float) -> tf.Tensor:
    """Gaussian blur of a share of the views, σ ~ U(0.1, max_sigma_px) for each, edges mirrored.

    The kernel is as long as a tenth of the side, made odd.
    """
    draws = prng.uniform(keys, count=2, stream=prng.Stream.BLUR)
    sigma = _BLUR_MIN_SIGMA_PX + (max_sigma_px - _BLUR_MIN_SIGMA_PX) * draws[:, 0]
    radius = min(max(x.shape[2] // 20, 1), x.shape[2] - 1)
    distance = tf.range(radius + 1, dtype=tf.float32)
    weights = tf.exp(-0.5 * tf.square(distance[None] / sigma[:, None]))
    weights = weights / (2.0 * tf.reduce_sum(weights, axis=1, keepdims=True) - weights[:, :1])
    blurred = _convolve(_convolve(x, weights, axis=2), weights, axis=3)
    return planar.choose(draws[:, 1] < probability, blurred, x)


def _convolve(x: tf.Tensor, weights: tf.Tensor, *, axis: int) -> tf.Tensor:
    """Weighs each pixel and its neighbours along an axis with symmetric weights by distance, [B, 1 + radius]."""
    radius = weights.shape[1] - 1
    steps = _BLUR_STEPS if radius >= _BLUR_STEPS else 1
    pairs = -(-radius // steps)
    reach = steps * pairs
    weights = tf.pad(weights, [[0, 0], [0, reach - radius]])
    padded = tf.pad(x, [[reach, reach] if each == axis else [0, 0] for each in range(4)], "REFLECT")

    def shifted(offset: tf.Tensor) -> tf.Tensor:
        return tf.slice(padded, [offset + reach if each == axis else 0 for each in range(4)], tf.shape(x))

    def add_pairs(step: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        for pair in range(1, pairs + 1):
            distance = step * pairs + pair
            weight = planar.per_image(tf.gather(weights, distance, axis=1))
            y = y + weight * (shifted(-distance) + shifted(distance))
        return y

    return planar.in_turn(steps, add_pairs, planar.per_image(weights[:, 0]) * x)


def sobel(x: tf.Tensor, keys: tf.Tensor, *, probability: float) -> tf.Tensor:
    """Reduces a share of the views to the length of their luma's gradient, 1 at a step from black to white."""
    padded = tf.pad(planar.luma(x), [[0, 0], [0, 0], [1, 1], [1, 1]], "SYMMETRIC")
    side = x.shape[2]

    def smooth(y: tf.Tensor, axis: int) -> tf.Tensor:
        first, second, third = _thirds(y, axis, side)
        return first + 2.0 * second + third

    def difference(y: tf.Tensor, axis: int) -> tf.Tensor:
        first, _, third = _thirds(y, axis, side)
        return third - first

    vertical, horizontal = smooth(difference(padded, 2), 3), smooth(difference(padded, 3), 2)
    edges = tf.sqrt(tf.square(vertical) + tf.square(horizontal)) / _SOBEL_PEAK
    chosen = prng.chosen(keys, probability=probability, stream=prng.Stream.SOBEL)
    return planar.choose(chosen, tf.minimum(edges, 1.0), x)


def _thirds(y: tf.Tensor, axis: int, side: int) -> list[tf.Tensor]:
    """A padded image three times: shifted by −1, 0 and 1 pixels along an axis."""
    return [tf.gather(y, tf.range(side) + offset, axis=axis) for offset in range(3)]


def noise(x: tf.Tensor, keys: tf.Tensor, *, probability: float, max_sigma: float) -> tf.Tensor:
    """Adds Gaussian noise to a share of the views, σ ~ U(0, max_sigma) for each, and clips.

    The paper's appendix on its ablation speaks of noise and gives no level.
    """
    count = math.prod(x.shape[1:])
    draws = prng.uniform(keys, count=2, stream=prng.Stream.NOISE)
    radius, angle = tf.split(prng.uniform(keys, count=2 * count, stream=prng.Stream.NOISE_PIXELS), 2, axis=1)
    # Box and Muller, 1958.
    normal = tf.sqrt(-2.0 * tf.math.log(1.0 - radius)) * tf.cos(2.0 * math.pi * angle)
    noisy = x + planar.per_image(max_sigma * draws[:, 0]) * tf.reshape(normal, tf.shape(x))
    return planar.choose(draws[:, 1] < probability, tf.clip_by_value(noisy, 0.0, 1.0), x)
