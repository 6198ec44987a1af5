"""Which training examples belong to a label fraction: a pure function of their keys and classes.

A class is put in the order of sha256(seed:key) and a fraction takes the head of that order. So an example's place
depends on nothing but its key: reading order and shards don't matter, smaller fractions lie inside larger ones, and
new data only moves the boundary in its own class.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping
from fractions import Fraction


def hash_rank(key: str, *, seed: int) -> str:
    """Places a key in the order of selection: the hex digest of sha256(seed:key); smaller is chosen earlier."""
    return hashlib.sha256(f"{seed}:{key}".encode()).hexdigest()


def class_quotas(fraction: float, class_sizes: Mapping[str, int]) -> dict[str, int]:
    """Counts the examples that a fraction takes from each class.

    Class number i of C in alphabetical order gets floor(f·n + (i + ½)/C), and at least 1: a rounding whose threshold
    is spread evenly over the classes and is fixed for each. Hence, before the "at least 1",
      · |k − f·n| < 1 in each class, and classes of one size differ by 1 at most;
      · k never falls when f grows, so that fractions nest (handing out the remainder by size doesn't: the Alabama
        paradox), and k depends on no other class's size, so that new data in one class leaves the others alone;
      · for classes of one size the total is exactly f·N rounded (Hermite's identity). For others the errors of the
        classes are of both signs, and the total strays from f·N by far fewer examples than there are classes.

    Args:
      fraction: in (0, 1].
      class_sizes: number of examples n ≥ 1 of each class.

    Returns:
      The count k of each class, 1 ≤ k ≤ n.
    """
    # The decimal that was written, not the binary float nearest to it: 0.29 of 100 is 29, not 28.
    share = Fraction(str(fraction))
    n_classes = len(class_sizes)
    return {
        name: max(1, math.floor(share * class_sizes[name] + Fraction(2 * i + 1, 2 * n_classes)))
        for i, name in enumerate(sorted(class_sizes))
    }


def select(keys_by_class: Mapping[str, Iterable[str]], fraction: float, *, seed: int) -> dict[str, list[str]]:
    """Chooses a fraction of each class: the keys of smallest hash.

    Args:
      keys_by_class: different keys of each class, at least one, in any order.
      fraction: in (0, 1].
      seed: another seed, another choice.

    Returns:
      The chosen keys of each class, in the order of their hashes.
    """
    ordered = {name: sorted(keys, key=lambda key: hash_rank(key, seed=seed)) for name, keys in keys_by_class.items()}
    quotas = class_quotas(fraction, {name: len(keys) for name, keys in ordered.items()})
    return {name: keys[: quotas[name]] for name, keys in ordered.items()}
