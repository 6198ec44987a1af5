"""What sees every image takes time in proportion to their number, or a little more for what sorts."""

import pytest
from benchmarks import scale

_SMALL, _LARGE = 1_000, 16_000
# 16 times the images. A part that compared all with all would take 256 times as long.
_MOST = 64


@pytest.mark.parametrize(
    "part", [*sorted(scale.PARTS.keys() - {"ingest"}), pytest.param("ingest", marks=pytest.mark.slow)]
)
def test_sixteen_times_the_images_take_no_more_than_a_few_times_sixteen(part):
    small, large = (scale.seconds(part, count) for count in (_SMALL, _LARGE))
    assert large < _MOST * max(small, 1e-4)
