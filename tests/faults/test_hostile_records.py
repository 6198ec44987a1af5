"""Any records at all before the trainer, which takes a glob of anybody's: a set of images, or a refusal by name."""

import io

import hypothesis
import pytest
from fuzzing import damaged, fuzz
from hypothesis import strategies as st
from PIL import Image

from components.image_example_gen import examples
from trainer import sources


def _png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 5)).save(buffer, "PNG")
    return buffer.getvalue()


PNG = _png()
_EXAMPLE = {"image": PNG, "key": b"a", "label_index": 3}
_VALUES = st.binary(max_size=40) | st.integers(0, 2**63 - 1) | damaged(PNG) | st.just(b"GIF89a" + bytes(40))


def _file(*records: bytes) -> bytes:
    buffer = io.BytesIO()
    for record in records:
        examples.write_record(buffer, record)
    return buffer.getvalue()


WHOLE = _file(*[examples.serialise(_EXAMPLE)] * 3)


@st.composite
def _foreign(draw) -> bytes:
    """Whole records, of which the second is no example, or one with a value that is another."""
    values = {**_EXAMPLE, draw(st.sampled_from(sorted(_EXAMPLE))): draw(_VALUES)}
    values.pop(draw(st.sampled_from(["", *sorted(_EXAMPLE)])), None)
    second = draw(st.just(examples.serialise(values)) | st.binary(max_size=40))
    return _file(examples.serialise(_EXAMPLE), second)


@fuzz(short=10, long=300)
@hypothesis.given(content=damaged(WHOLE) | _foreign() | st.binary(max_size=100))
@hypothesis.example(content=WHOLE)
def test_any_records_are_a_set_of_images_or_refused_by_name(tmp_path, content):
    path = tmp_path / "a.tfrecord"
    path.write_bytes(content)
    try:
        files = sources.open_examples([str(path)])
    except ValueError as refused:
        assert str(path) in str(refused)
    else:
        assert files.count >= 1 and files.short_side_px >= 1 and min(files.canvas_px) >= 1


@pytest.mark.parametrize(
    "image",
    [b"", PNG[:20], b"GIF89a" + bytes(40), PNG[:16] + b"\xff" * 8 + PNG[24:], PNG[:16] + bytes(8) + PNG[24:]],
    ids=["none", "cut short", "GIF", "of a size below zero", "of no size"],
)
def test_record_whose_image_is_no_png_is_refused_with_its_file(tmp_path, image):
    for name, record in (("a", _EXAMPLE), ("b", {**_EXAMPLE, "image": image})):
        (tmp_path / name).write_bytes(_file(examples.serialise(record)))
    with pytest.raises(ValueError, match=rf"{tmp_path / 'b'} .* no PNG"):
        sources.open_examples([str(tmp_path / "*")])
