"""The weighted kNN classifier by brute force (arXiv 1805.01978, section 3.4): each test image sorts all others."""

import math

import numpy as np


def knn_probabilities(train_h, train_labels, test_h, *, k, temperature, n_classes):
    def cosine(a, b):
        return float(np.float64(a) @ np.float64(b)) / (math.dist(a, 0 * a) * math.dist(b, 0 * b))

    rows = []
    for h in test_h:
        similarities = sorted(
            ((cosine(h, other), label) for other, label in zip(train_h, train_labels, strict=True)), reverse=True
        )
        votes = [0.0] * n_classes
        for similarity, label in similarities[:k]:
            votes[label] += math.exp(similarity / temperature)
        rows.append([vote / sum(votes) for vote in votes])
    return np.array(rows)
