"""Antialiased resampling of an interval, one weight at a time."""

import math


def triangle(distance):
    return max(0.0, 1 - abs(distance))


def keys_cubic(distance):
    """Keys, "Cubic convolution interpolation for digital image processing", 1981, equation 15."""
    s = abs(distance)
    if s < 1:
        return 3 / 2 * s**3 - 5 / 2 * s**2 + 1
    return -1 / 2 * s**3 + 5 / 2 * s**2 - 4 * s + 2 if s < 2 else 0.0


def matrix(start, length, *, lines, side, kernel):
    """Rows of weights, each with sum 1; a line counts by the part of it that the interval holds."""
    low, high = min(start, start + length), max(start, start + length)
    rows = []
    for output in range(side):
        center = start + (output + 0.5) * length / side
        width = max(abs(length) / side, 1.0)
        row = [
            kernel((line + 0.5 - center) / width) * max(0.0, min(line + 1, high) - max(line, low))
            for line in range(lines)
        ]
        rows.append([weight / math.fsum(row) for weight in row])
    return rows
