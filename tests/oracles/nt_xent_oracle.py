"""NT-Xent row by row, as arXiv 2002.05709 writes it: equation 1, then the mean of algorithm 1 over 2N rows."""

import math

import numpy as np


def nt_xent(z_a, z_b, temperature, queue=()):
    """`queue`: rows that are further negatives of every row (arXiv 2006.10029, section 2.1)."""
    # Algorithm 1 interleaves the views: rows 2k and 2k+1 are a positive pair.
    z = [row for pair in zip(np.float64(z_a), np.float64(z_b), strict=True) for row in pair]

    def similarity(x, y):
        return float(x @ y) / (np.linalg.norm(x) * np.linalg.norm(y))

    def pair_loss(i, j):
        others = [z[k] for k in range(len(z)) if k != i] + list(queue)
        denominator = sum(math.exp(similarity(z[i], other) / temperature) for other in others)
        return -math.log(math.exp(similarity(z[i], z[j]) / temperature) / denominator)

    pairs = range(0, len(z), 2)
    return sum(pair_loss(i, i + 1) + pair_loss(i + 1, i) for i in pairs) / len(z)


def finite_difference_gradient(function, x, step=1e-5):
    """Central differences of a scalar function, one coordinate at a time."""
    x = np.array(x, np.float64)
    gradient = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        shifted = x.copy()
        shifted[index] += step
        above = function(shifted)
        shifted[index] -= 2 * step
        gradient[index] = (above - function(shifted)) / (2 * step)
    return gradient
