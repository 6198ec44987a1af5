"""What sees every image does as much for each as for any other, and takes time in proportion or as a sort does."""

import counting
import pytest
from benchmarks import scale

from components.span_ingest import ledger

# As many more each time.
_COUNTED = (2_000, 4_000, 6_000)
_SMALL, _LARGE = 1_000, 16_000
# 16 times the images. What compared all with all would take 256 times as long, and each with a root of all, 64 times.
_MOST = 40


@pytest.mark.parametrize("part", ["look-up", "settle", "split", "split, grown"])
def test_images_added_take_exactly_as_many_operations_as_those_before(part, monkeypatch):
    counts = counting.Counts()
    monkeypatch.setattr(ledger, "pc", counts.kernels(ledger.pc))
    first, second, third = (counts.of(scale.PARTS[part](count, text=counts.text())) for count in _COUNTED)
    assert second["steps"] > first["steps"]
    growth = [
        {kind: large[kind] - small[kind] for kind in third} for small, large in ((first, second), (second, third))
    ]
    assert growth[0] == growth[1]


@pytest.mark.parametrize(
    "part", [*sorted(scale.PARTS.keys() - {"ingest"}), pytest.param("ingest", marks=pytest.mark.slow)]
)
def test_sixteen_times_the_images_take_no_more_than_a_few_times_sixteen(part):
    small, large = (scale.seconds(part, count) for count in (_SMALL, _LARGE))
    assert large < _MOST * max(small, 1e-4)
