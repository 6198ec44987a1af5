"""Every format, mode and damage, without Beam; what is stored is compared with TensorFlow's own decoding."""

import io
import struct
import warnings
import zlib

import ingest_fixtures as fixtures
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from components.image_example_gen import decode, png
from components.image_example_gen.decode import UndecodableError, canonicalise

MAX_PIXELS = 10_000
# libjpeg builds may round the inverse cosine transform and upsample colour differently.
JPEG_TOLERANCE = 4
_RGB = fixtures.pixels(0)
_GRAY = fixtures.pixels(1, channels=1)
_SMOOTH = np.array(Image.linear_gradient("L").resize((40, 30)))


def _stored(data: bytes):
    return canonicalise(data, max_pixels=MAX_PIXELS)


def _tensorflow_pixels(data: bytes) -> np.ndarray:
    return tf.io.decode_image(data, channels=3, expand_animations=False).numpy()


def _alpha() -> np.ndarray:
    alpha = fixtures.pixels(2, channels=4)
    alpha[:2, :, 3] = [[0], [255]]
    return alpha


def _over_white(rgba: np.ndarray) -> np.ndarray:
    share = rgba[..., 3:] / 255
    return rgba[..., :3] * share + 255 * (1 - share)


def _raw_png(rows: bytes, *, color_type: int, width: int, height: int, depth: int = 16) -> bytes:
    """Puts together what PIL cannot write: 16-bit colour, and rows that do not fit."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def _palette() -> Image.Image:
    return Image.fromarray(_RGB).quantize(16)


PASSED_THROUGH = {
    "png_rgb": fixtures.encode(_RGB),
    "png_gray": fixtures.encode(_GRAY),
    "png_palette": fixtures.encode(Image.fromarray(fixtures.pixels(3, size=(20, 20))).quantize(200)),
    "jpeg_rgb": fixtures.encode(Image.fromarray(_SMOOTH).convert("RGB"), "JPEG"),
    "jpeg_gray": fixtures.encode(_SMOOTH, "JPEG"),
    "jpeg_progressive": fixtures.encode(Image.fromarray(_SMOOTH).convert("RGB"), "JPEG", progressive=True),
    "jpeg_padded": fixtures.encode(_SMOOTH, "JPEG") + bytes(7),
    "jpeg_two_images": fixtures.encode(_SMOOTH, "JPEG") + fixtures.encode(_GRAY, "JPEG"),
    "jpeg_444": fixtures.encode(Image.fromarray(_SMOOTH).convert("RGB"), "JPEG", subsampling=0),
}


def _with_stray_marker(jpeg: bytes) -> bytes:
    """Puts into the scan a marker that PIL skips and on which TensorFlow may give up."""
    middle = (jpeg.index(b"\xff\xda") + len(jpeg)) // 2
    return jpeg[:middle] + b"\xff\xe9" + jpeg[middle + 2 :]


REENCODED = {
    "png_one_bit": (fixtures.encode(Image.fromarray(_GRAY).convert("1")), None),
    "png_small_palette": (fixtures.encode(_palette()), np.asarray(_palette().convert("RGB"))),
    "png_rgba": (fixtures.encode(_alpha()), _over_white(_alpha())),
    "png_transparent_color": (
        fixtures.encode(np.zeros((4, 4, 3), np.uint8), transparency=(0, 0, 0)),
        np.full((4, 4, 3), 255),
    ),
    "png_gray_alpha": (
        fixtures.encode(Image.fromarray(np.zeros((4, 4, 2), np.uint8), "LA")),
        np.full((4, 4, 3), 255),
    ),
    "png_gray_16": (
        fixtures.encode(np.array([[0, 255, 256, 65535]], np.uint16)),
        np.repeat([[[0], [0], [1], [255]]], 3, axis=2),
    ),
    "png_rgb_16": (
        _raw_png(b"\0" + struct.pack(">6H", 0, 255, 256, 32768, 65535, 4660), color_type=2, width=2, height=1),
        np.array([[[0, 0, 1], [128, 255, 18]]]),
    ),
    "gif": (fixtures.encode(_palette(), "GIF"), np.asarray(_palette().convert("RGB"))),
    "gif_first_frame": (
        fixtures.encode(
            Image.new("RGB", (4, 4), "red"),
            "GIF",
            save_all=True,
            append_images=[Image.new("RGB", (4, 4), "blue")],
        ),
        np.tile([255, 0, 0], (4, 4, 1)),
    ),
    "png_animated": (
        fixtures.encode(
            Image.new("RGB", (4, 4), "red"), save_all=True, append_images=[Image.new("RGB", (4, 4), "blue")]
        ),
        np.tile([255, 0, 0], (4, 4, 1)),
    ),
    "webp": (fixtures.encode(_RGB, "WEBP", lossless=True), _RGB),
    "webp_animated": (
        fixtures.encode(
            Image.new("RGB", (4, 4), "red"),
            "WEBP",
            lossless=True,
            save_all=True,
            append_images=[Image.new("RGB", (4, 4), "blue")],
        ),
        np.tile([255, 0, 0], (4, 4, 1)),
    ),
    "bmp": (fixtures.encode(_RGB, "BMP"), _RGB),
    "tiff": (fixtures.encode(_RGB, "TIFF"), _RGB),
    "tiff_16": (fixtures.encode(np.full((2, 2), 65535, np.uint16), "TIFF"), np.full((2, 2, 3), 255)),
    "ppm": (fixtures.encode(_RGB, "PPM"), _RGB),
    "jpeg_cmyk": (fixtures.encode(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100), None),
    "jpeg_with_a_trailer": (fixtures.encode(_SMOOTH, "JPEG") + b"a camera's notes", None),
    "jpeg_with_a_stray_marker": (_with_stray_marker(PASSED_THROUGH["jpeg_rgb"]), None),
}


@pytest.mark.parametrize("name", PASSED_THROUGH)
def test_what_tensorflow_reads_surely_is_stored_untouched(name):
    data = PASSED_THROUGH[name]
    image = _stored(data)
    assert image.data == data
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    seen = _tensorflow_pixels(data)
    assert seen.shape == (image.height, image.width, 3)
    tolerance = JPEG_TOLERANCE if image.format == "jpeg" else 0
    np.testing.assert_allclose(seen.astype(int), expected.astype(int), atol=tolerance)
    assert image.format == image.source_format == name.split("_")[0]


@pytest.mark.parametrize("name", REENCODED)
def test_anything_else_becomes_an_rgb_png_of_the_same_pixels(name):
    data, expected = REENCODED[name]
    image = _stored(data)
    assert image.format == "png"
    assert image.source_format == name.split("_")[0]
    with Image.open(io.BytesIO(image.data)) as stored:
        assert (stored.format, stored.mode, stored.size) == ("PNG", "RGB", (image.width, image.height))
        by_pil = np.asarray(stored)
    np.testing.assert_array_equal(_tensorflow_pixels(image.data), by_pil)
    if expected is None:
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    # Compositing rounds.
    np.testing.assert_allclose(by_pil.astype(float), expected, atol=1 if name == "png_rgba" else 0)


def test_cmyk_red_becomes_rgb_red():
    stored = Image.open(io.BytesIO(_stored(REENCODED["jpeg_cmyk"][0]).data))
    np.testing.assert_allclose(np.asarray(stored).reshape(-1, 3).mean(0), [255, 0, 0], atol=JPEG_TOLERANCE)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = fixtures.encode(Image.fromarray(_SMOOTH).convert("RGB"), kind, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    image = _stored(data)
    assert (image.height, image.width) == expected.shape[:2]
    tolerance = JPEG_TOLERANCE if image.format == "jpeg" else 0
    np.testing.assert_allclose(_tensorflow_pixels(image.data).astype(int), expected.astype(int), atol=tolerance)
    assert (image.width > image.height) == (orientation < 5)


def test_damaged_exif_counts_as_upright():
    data = fixtures.encode(Image.fromarray(_SMOOTH), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert _stored(data).data == data


_TALL = fixtures.encode(np.zeros((101, 100), np.uint8))
_BIG = {
    kind: fixtures.encode(fixtures.pixels(4, size=(60, 60)), kind)
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")
}
_FLIPPED = bytearray(_BIG["PNG"])
_FLIPPED[len(_FLIPPED) // 2] ^= 0xFF


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", "empty", id="zero_bytes"),
        pytest.param(b"hello, I am no image", "not_an_image", id="text"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", "not_an_image", id="eps_is_a_program"),
        pytest.param(_TALL, "too_many_pixels", id="over_the_limit"),
        pytest.param(bytes(_FLIPPED), "corrupt", id="png_with_a_flipped_byte"),
        pytest.param(_BIG["PNG"][:-12], "truncated", id="png_without_its_end"),
        pytest.param(_BIG["PNG"][:20], "truncated", id="png_cut_in_its_header"),
        pytest.param(fixtures.encode(np.zeros((2, 2), np.float32), "TIFF"), "unsupported_pixels", id="float"),
        *(pytest.param(data[: len(data) // 2], "truncated", id=f"half_{kind}") for kind, data in _BIG.items()),
    ],
)
def test_what_is_no_whole_image_is_refused_with_its_reason(data, reason):
    with pytest.raises(UndecodableError) as caught:
        _stored(data)
    assert caught.value.reason == reason


def test_a_bomb_is_refused_before_its_pixels_are_decoded():
    # No row of its pixels exists: decoding it would fail otherwise than by the limit.
    bomb = _raw_png(b"\0", color_type=2, width=20_000, height=20_000, depth=8)
    with pytest.raises(UndecodableError) as caught:
        _stored(bomb)
    assert caught.value.reason == "too_many_pixels"


_ROW = b"\0" + bytes(6)


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(_ROW, id="too_few_rows"),
        pytest.param(_ROW * 3, id="too_many_rows"),
        pytest.param(_ROW + b"\x05" + bytes(6), id="unknown_filter"),
    ],
)
def test_a_png_whose_rows_do_not_fit_its_header_is_refused_or_read_alike_by_tensorflow(rows):
    data = _raw_png(rows, color_type=2, width=2, height=2, depth=8)
    try:
        image = _stored(data)
    except UndecodableError as error:
        assert error.reason in ("truncated", "corrupt")
    else:
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        np.testing.assert_array_equal(_tensorflow_pixels(image.data), expected)


def test_the_shortcut_for_plain_pngs_says_what_pil_says():
    for name, data in PASSED_THROUGH.items():
        if name.startswith("png"):
            is_plain = png.size_if_plain(png.chunks(data), max_pixels=MAX_PIXELS)
            assert is_plain == (None if name == "png_palette" else Image.open(io.BytesIO(data)).size)
    for name, (data, _) in REENCODED.items():
        if name.startswith("png"):
            assert png.size_if_plain(png.chunks(data), max_pixels=MAX_PIXELS) is None


def test_flipped_bytes_never_pass_what_tensorflow_refuses():
    rng = np.random.default_rng(5)
    for data in PASSED_THROUGH.values():
        for _ in range(40):
            damaged = bytearray(data)
            damaged[rng.integers(len(data))] ^= int(rng.integers(1, 256))
            try:
                image = _stored(bytes(damaged))
            except UndecodableError:
                continue
            assert _tensorflow_pixels(image.data).shape == (image.height, image.width, 3)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate output buffer."),
        OSError("out of memory error when reading image file"),
        zlib.error("Error -4 while decompressing data"),
    ],
)
def test_image_is_damaged_if_it_wants_memory_and_the_largest_allowed_would_get_it(monkeypatch, error):
    """Of a good image nobody may say that it is corrupt, for it is not looked at again."""

    def fail(*_):
        raise error

    monkeypatch.setattr(decode, "_canonicalise", fail)
    with pytest.raises(UndecodableError) as caught:
        canonicalise(fixtures.png(1), max_pixels=10_000)
    assert caught.value.reason == "corrupt"
    with pytest.raises(MemoryError, match=r"no memory for one of \d+ pixels \(max_pixels\)"):
        canonicalise(fixtures.png(1), max_pixels=2**60)
