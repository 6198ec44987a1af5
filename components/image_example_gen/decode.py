"""Encoded bytes → bytes that TensorFlow surely decodes to the same pixels, or the reason why not."""

import io
import re
import struct
import zlib
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from components.image_example_gen import png
from components.image_example_gen.png import UndecodableError

# No format that runs a program (EPS) or that PIL reads for curiosity only.
_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "PPM")
# How a file of a known format begins; with one of these, "cannot identify" means cut short in the header.
_SIGNATURES = (png.SIGNATURE, b"\xff\xd8\xff", b"GIF8", b"RIFF", b"II*\0", b"MM\0*")
_ORIENTATION = 0x0112
# What ends a scan's data: any marker but stuffing, restarts, and those that may stand between two scans.
_JPEG_SCANS_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff\xc4\xda\xdb\xdd\xfe]")
_JPEG_START = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"
_JPEG_START_OF_SCAN = 0xDA
# PNG file: 8 bytes signature, 8 bytes IHDR's length and name, 4 + 4 bytes size, then the bit depth.
_PNG_BIT_DEPTH_AT = 24
_RGBA_BYTES = 4
_ZLIB_WANT_OF_MEMORY = "error -4 "
# What PIL's readers raise on damaged input.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
)


class Decoded(NamedTuple):
    """An upright image as it will be stored; `format` is of `data`, `source_format` of what was read."""

    data: bytes
    width: int
    height: int
    format: str
    source_format: str


def canonicalise(data: bytes, *, max_pixels: int) -> Decoded:
    """Checks that `data` decodes wholly; re-encodes it as PNG unless TensorFlow reads the very same pixels.

    Args:
      data: an encoded image, as read.
      max_pixels: images with more pixels are refused before any pixel is decoded.

    Returns:
      `data` itself for upright 8-bit RGB or gray JPEG and 8-bit RGB, gray or opaque palette PNG; else a PNG in
      RGB: transparency over white, 16 bits scaled to 8, first frame, EXIF orientation applied.

    Raises:
      UndecodableError: with the reason.
      MemoryError: it does not decode for want of memory, and an image of `max_pixels` would not fit either.
    """
    if not data:
        raise UndecodableError("empty", "zero bytes")
    try:
        return _canonicalise(data, max_pixels)
    except UndecodableError:
        raise
    except UnidentifiedImageError as error:
        if data.startswith(_SIGNATURES):
            raise UndecodableError("truncated", "cut short or damaged in its header") from error
        raise UndecodableError("not_an_image", "no known image format") from error
    except Image.DecompressionBombError as error:
        raise UndecodableError("too_many_pixels", str(error)) from error
    except _DAMAGE as error:
        if _is_want_of_memory(error) and not _fits(max_pixels * _RGBA_BYTES):
            raise MemoryError(
                f"an image does not decode: {error or type(error).__name__}. Whether it is damaged cannot be told: "
                f"there is no memory for one of {max_pixels} pixels (max_pixels). Give more, or allow fewer pixels"
            ) from error
        raise UndecodableError(
            "truncated" if _is_cut_short(data, error) else "corrupt", f"{error or type(error).__name__}"
        ) from error


def _is_want_of_memory(error: BaseException) -> bool:
    """Whether a decoder got no memory. That of a damaged file may also have asked for more than there is anywhere."""
    words = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in words or words.startswith(_ZLIB_WANT_OF_MEMORY)


def _fits(size: int) -> bool:
    try:
        bytearray(size)
    except MemoryError:
        return False
    return True


def _is_cut_short(data: bytes, error: BaseException) -> bool:
    if data.startswith(b"RIFF"):
        # WebP's decoder does not say, but the file states its own length, less 8 bytes.
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    return "truncated" in str(error).lower()


def _canonicalise(data: bytes, max_pixels: int) -> Decoded:
    if data.startswith(png.SIGNATURE):
        size = png.size_if_plain(png.chunks(data), max_pixels=max_pixels)
        if size:
            return Decoded(data, *size, "png", "png")
    with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise UndecodableError(
                "too_many_pixels", f"{width}x{height} is over the limit of {max_pixels} pixels (max_pixels)"
            )
        source_format = image.format.lower()
        image.load()
        orientation = _orientation(image)
        if orientation == 1 and _tensorflow_sees_the_same(image, data):
            stored = "png" if source_format == "png" else "jpeg"
            return Decoded(data, width, height, stored, source_format)
        # Frames after the first would make exif_transpose and convert act on an animation.
        upright = ImageOps.exif_transpose(image) if orientation != 1 else image
        rgb = to_rgb(upright)
        buffer = io.BytesIO()
        rgb.save(buffer, format="PNG")
        return Decoded(buffer.getvalue(), *rgb.size, "png", source_format)


def to_rgb(image: Image.Image) -> Image.Image:
    """Returns a loaded image as 8-bit RGB: transparency over white, more than 8 bits scaled, none clipped."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > np.iinfo(np.uint16).max:
            raise UndecodableError("unsupported_pixels", f"pixels of mode {image.mode} have no known range")
        # The high byte, as PIL and libpng take it from 16-bit RGB.
        return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    if "transparency" in image.info or image.mode in ("RGBA", "RGBa", "LA", "La", "PA"):
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    """Returns EXIF's orientation, 1 (upright) to 8; a damaged EXIF block does not make an image unusable."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except _DAMAGE:
        return 1
    return orientation if orientation in range(1, 9) else 1


def _tensorflow_sees_the_same(image: Image.Image, data: bytes) -> bool:
    if image.format in ("JPEG", "MPO"):
        return image.mode in ("RGB", "L") and _is_jpeg_in_order(data)
    return (
        image.format == "PNG"
        and image.mode in ("RGB", "L", "P")
        and data[_PNG_BIT_DEPTH_AT] == 8
        and "transparency" not in image.info
        and not getattr(image, "is_animated", False)
        and png.has_all_rows(png.chunks(data))
    )


def _is_jpeg_in_order(data: bytes) -> bool:
    """PIL forgives a stray marker in the scans and a missing end; TensorFlow does not always."""
    at = 2
    while data[at : at + 1] == b"\xff":
        marker = data[at + 1]
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _JPEG_START_OF_SCAN:
            end = _JPEG_SCANS_END.search(data, at)
            if end is None or end.group() != _JPEG_END:
                return False
            # An end marker may be damage too, unless nothing or a second image (of a camera's MPO) follows.
            rest = data[end.end() :].lstrip(b"\0")
            return not rest or rest.startswith(_JPEG_START)
    return False
