"""Near duplicates: images whose perceptual hashes differ by a few bits. They are counted and shown, never dropped."""

import itertools
from collections.abc import Sequence

import numpy as np

_BITS = 64


def parse(hashes: Sequence[str]) -> np.ndarray:
    """Hexadecimal hashes as uint64 [n]."""
    return np.array([int(text, 16) for text in hashes], np.uint64)


def find(new: np.ndarray, old: np.ndarray, *, max_bits: int) -> np.ndarray:
    """For each new hash one that it is near to.

    Of two hashes that differ by at most d bits, at least one of d + 1 bands is the same: so only those that share a
    band are compared, each band after a sort. That grows a little faster than the number of hashes as long as the
    bands of 64 / (max_bits + 1) bits tell images apart, and with its square beyond (measured in docs/scale.md).

    Args:
      new: uint64 [n].
      old: uint64 [m].
      max_bits: largest number of bits by which near hashes differ.

    Returns:
      int64 [n]: a position in old followed by new, before the image's own; -1: there is none.
    """
    every = np.concatenate([old, new])
    own = np.arange(len(old), len(every))
    nearest = np.full(len(new), -1)
    for shift, width in _bands(max_bits + 1):
        bands = (every >> np.uint64(shift)) & np.uint64(2**width - 1)
        order = np.argsort(bands, kind="stable")
        ordered = bands[order]
        at = np.searchsorted(ordered, bands[own], side="left")
        end = np.searchsorted(ordered, bands[own], side="right")
        # The stable sort has each band's images in their order, so the first ones are the earliest.
        waiting = np.flatnonzero((nearest < 0) & (at < end))
        while len(waiting):
            candidates = order[at[waiting]]
            earlier = candidates < own[waiting]
            near = earlier & (_distance(every[candidates], new[waiting]) <= max_bits)
            nearest[waiting[near]] = candidates[near]
            at[waiting] += 1
            waiting = waiting[earlier & ~near & (at[waiting] < end[waiting])]
    return nearest


def _bands(count: int) -> list[tuple[int, int]]:
    edges = [_BITS * number // count for number in range(count + 1)]
    return [(start, min(end - start, _BITS - 1)) for start, end in itertools.pairwise(edges)]


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Number of bits that differ."""
    differing = (a ^ b).view(np.uint8).reshape(-1, 8)
    return np.unpackbits(differing, axis=1).sum(axis=1)
