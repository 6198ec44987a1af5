"""LARS on one variable in NumPy (arXiv 1708.03888, algorithm 1, with SimCLR's momentum on the scaled gradient)."""

import numpy as np


def trace(weights, gradients, learning_rates, *, momentum=0.9, decay=0.0, trust=0.001, adapted=True):
    """The weights after each step."""
    w, velocity, steps = np.float64(weights), 0.0, []
    for gradient, rate in zip(gradients, learning_rates, strict=True):
        g = np.float64(gradient)
        local_rate = 1.0
        if adapted:
            g = g + decay * w
            w_norm, g_norm = np.sqrt(np.sum(w**2)), np.sqrt(np.sum(g**2))
            if w_norm > 0 and g_norm > 0:
                local_rate = trust * w_norm / g_norm
        velocity = momentum * velocity + rate * local_rate * g
        w = w - velocity
        steps.append(w)
    return steps
