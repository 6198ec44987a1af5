"""Which training examples belong to a label fraction: a pure function of their keys and classes.

A class is put in the order of sha256(seed:key) and a fraction takes the head of that order. So an example's place
depends on nothing but its key: reading order and shards don't matter, smaller fractions lie inside larger ones, and
new data only moves the boundary in its own class. Where an earlier choice is known, not even that: the images of then
stay where they are, and the new ones make up what is missing.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from types import MappingProxyType

NO_CHOICE: Mapping[str, float | None] = MappingProxyType({})


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


def smallest_fractions(
    keys_by_class: Mapping[str, Iterable[str]],
    fractions: Sequence[float],
    *,
    seed: int,
    earlier: Mapping[str, float | None] = NO_CHOICE,
) -> dict[str, float | None]:
    """Says for each key which is the smallest fraction that holds it; all larger ones do too.

    What an earlier choice says of a key stays, though its class has grown or shrunk since. New keys, those of the
    smallest hashes first, fill each fraction up to its quota. Without an earlier choice that is `select` of each
    fraction. With one, a key that fills a smaller fraction counts in the larger ones too, whose own keys stay: each
    then holds its quota and at most as many keys more as there are smaller fractions. Where keys have gone, a
    fraction may hold more until its class has grown again. It never holds none of a class: the key that is nearest
    to it then moves into it.

    Args:
      keys_by_class: different keys, no two classes sharing one, at least one of each, in any order.
      fractions: different numbers in (0, 1].
      seed: another seed, another choice.
      earlier: what this function returned of earlier keys, with the same fractions and seed.

    Returns:
      By key, the smallest fraction that it is in; None: it is in none of them.
    """
    classes = {name: list(keys) for name, keys in keys_by_class.items()}
    sizes = {name: len(keys) for name, keys in classes.items()}
    quotas = {fraction: class_quotas(fraction, sizes) for fraction in sorted(fractions)}
    found: dict[str, float | None] = {}
    for name, keys in classes.items():
        of_class = {fraction: quota[name] for fraction, quota in quotas.items()}
        found |= _fill_up(sorted(keys, key=lambda key: hash_rank(key, seed=seed)), of_class, earlier)
    return found


def _fill_up(
    keys: Sequence[str], quotas: Mapping[float, int], earlier: Mapping[str, float | None]
) -> dict[str, float | None]:
    """Of one class: keys in the order of their hashes, quotas from the smallest fraction on."""
    placed = {key: earlier[key] for key in keys if key in earlier}
    new = [key for key in keys if key not in earlier][::-1]
    for fraction, quota in quotas.items():
        held = sum(lies_in(smallest, fraction) for smallest in placed.values())
        for _ in range(min(quota - held, len(new))):
            placed[new.pop()] = fraction
            held += 1
        if not held:
            # Of several that are as near, the first in the order of their hashes.
            placed[min(placed, key=lambda key: placed[key] or math.inf)] = fraction
    return placed | dict.fromkeys(new)


def lies_in(smallest: float | None, fraction: float) -> bool:
    """Whether a key is in a fraction, by the smallest that it is in."""
    return smallest is not None and smallest <= fraction
