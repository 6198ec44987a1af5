"""Near duplicates: by an oracle that compares all pairs, and on images that were scaled and recompressed."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from components.image_example_gen.outcomes import perceptual_hash
from components.span_ingest import near


def by_all_pairs(new, old, max_bits):
    every = [int(value) for value in (*old, *new)]
    found = []
    for position, value in enumerate(every[len(old) :], start=len(old)):
        found.append(any(bin(value ^ other).count("1") <= max_bits for other in every[:position]))
    return found


@pytest.mark.parametrize("max_bits", [0, 1, 3, 8])
@pytest.mark.parametrize(("n_old", "n_new"), [(0, 40), (40, 40), (40, 0)])
def test_near_ones_are_those_that_a_comparison_of_all_pairs_finds(max_bits, n_old, n_new):
    rng = np.random.default_rng(7)
    centres = rng.integers(0, 2**63, 12, dtype=np.uint64)
    flips = [np.uint64(sum(1 << int(bit) for bit in rng.choice(64, rng.integers(0, 9), False))) for _ in range(80)]
    every = np.array([centres[number % 12] ^ flip for number, flip in enumerate(flips)], np.uint64)
    old, new = every[:n_old], every[n_old : n_old + n_new]
    found = near.find(new, old, max_bits=max_bits)
    assert (found >= 0).tolist() == by_all_pairs(new, old, max_bits)
    together = np.concatenate([old, new])
    for position, match in enumerate(found):
        if match >= 0:
            assert match < n_old + position
            assert bin(int(together[match]) ^ int(new[position])).count("1") <= max_bits


def test_many_equal_hashes_are_found_at_once():
    same = np.full(20_000, 5, np.uint64)
    found = near.find(same, np.array([], np.uint64), max_bits=3)
    assert found[0] == -1 and (found[1:] == 0).all()


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_scaled_and_recompressed_images_are_near_and_others_are_not():
    noise = [np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8) for seed in range(3)]
    images = [Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(6)) for pixels in noise]
    hashes = near.parse([perceptual_hash(encoded(image, "PNG")) for image in images])
    changed = [encoded(image.resize((48, 48)), "JPEG", quality=80) for image in images]
    found = near.find(near.parse([perceptual_hash(data) for data in changed]), hashes, max_bits=6)
    assert found.tolist() == [0, 1, 2]
    assert near.find(hashes, np.array([], np.uint64), max_bits=6).tolist() == [-1, -1, -1]
