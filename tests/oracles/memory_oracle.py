"""The memory in plain Python: a list that forgets its oldest rows, and weights that follow others."""

import numpy as np


def queue_after(batches, size):
    """The rows kept of batches of (z_a, z_b), oldest first: image by image, first view, second view."""
    rows = []
    for z_a, z_b in batches:
        for pair in zip(z_a, z_b, strict=True):
            rows += [np.float64(z) / np.linalg.norm(z) for z in pair]
    return np.array(rows[-size:])


def moving_average(start, targets, momentum):
    slow = np.float64(start)
    for target in targets:
        slow = momentum * slow + (1 - momentum) * np.float64(target)
    return slow
