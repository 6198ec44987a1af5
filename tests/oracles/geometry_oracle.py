"""The geometry of embeddings from its definitions, one pair at a time. z: [2n, d], first views then second ones."""

import itertools

import numpy as np


def directions(rows):
    return [np.array(row, dtype=np.float64) / np.linalg.norm(row) for row in rows]


def alignment(z):
    unit = directions(z)
    n = len(unit) // 2
    return sum(np.linalg.norm(unit[i] - unit[n + i]) ** 2 for i in range(n)) / n


def uniformity(z):
    first = directions(z)[: len(z) // 2]
    potentials = [np.exp(-2 * np.linalg.norm(x - y) ** 2) for x, y in itertools.permutations(first, 2)]
    return np.log(sum(potentials) / len(potentials))


def positive_and_hardest_negative(z):
    unit = directions(z)
    n = len(unit) // 2
    positives, hardest = [], []
    for i, row in enumerate(unit):
        partner = i + n if i < n else i - n
        positives.append(float(row @ unit[partner]))
        hardest.append(max(float(row @ other) for j, other in enumerate(unit) if j not in (i, partner)))
    return sum(positives) / len(positives), sum(hardest) / len(hardest)


def effective_rank(h):
    eigenvalues = np.linalg.eigvalsh(np.array(h, dtype=np.float64).T @ h)
    values = [np.sqrt(value) for value in eigenvalues if value > 1e-12 * max(eigenvalues)]
    return np.prod([(value / sum(values)) ** -(value / sum(values)) for value in values])


def knn_accuracy(h, label, *, k, temperature):
    unit, hits = directions(h), 0
    for i, row in enumerate(unit):
        others = sorted((j for j in range(len(unit)) if j != i), key=lambda j: -float(row @ unit[j]))[:k]
        votes = {}
        for j in others:
            votes[label[j]] = votes.get(label[j], 0) + np.exp(float(row @ unit[j]) / temperature)
        hits += max(votes, key=votes.get) == label[i]
    return hits / len(unit)
