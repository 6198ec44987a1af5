"""The commonest PNGs proved whole without decoding them: a third of PIL's time on an image of 32 x 32 pixels."""

import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Length, kind, checksum.
_FRAME_BYTES = 12
_LENGTH_AND_KIND = struct.Struct(">I4s")
_CHECKSUM = struct.Struct(">I")
_HEADER = struct.Struct(">IIBBBBB")
# Gray, RGB, palette, gray with alpha, RGB with alpha.
_CHANNELS_OF_COLOR_TYPE = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PLAIN_COLOR_TYPES = (0, 2)
# Chunks that change no pixel; any other (transparency, animation, EXIF, text that may hold an orientation) is
# left to PIL.
_PLAIN_CHUNKS = frozenset({b"IHDR", b"IDAT", b"IEND", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"pHYs", b"bKGD", b"tIME"})
_LAST_FILTER = 4


class UndecodableError(ValueError):
    """The bytes are no usable image; `reason` is a stable word."""

    def __init__(self, reason: str, detail: str):
        super().__init__(detail)
        self.reason = reason


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Returns kind and body of each chunk, up to the end chunk.

    PIL does not check the sums of pixel data and forgives a missing end; libpng, and so TensorFlow, does not.

    Raises:
      UndecodableError: for a checksum that fails in a chunk that matters, or a file that stops early.
    """
    found = []
    at = len(SIGNATURE)
    while at + _FRAME_BYTES <= len(data):
        length, kind = _LENGTH_AND_KIND.unpack_from(data, at)
        end = at + _FRAME_BYTES + length
        if end > len(data):
            break
        is_critical = kind[:1].isupper()
        if is_critical and zlib.crc32(data[at + 4 : end - 4]) != _CHECKSUM.unpack_from(data, end - 4)[0]:
            raise UndecodableError("corrupt", f"PNG chunk {kind!r} fails its checksum")
        found.append((kind, data[at + 8 : end - 4]))
        if kind == b"IEND":
            return found
        at = end
    raise UndecodableError("truncated", "the PNG stops before its end")


def size_if_plain(found: list[tuple[bytes, bytes]], *, max_pixels: int) -> tuple[int, int] | None:
    """Returns width and height of an 8-bit RGB or gray PNG if any decoder surely gets the same pixels from it.

    Args:
      found: what `chunks` returned.
      max_pixels: images with more pixels are not inflated.

    Returns:
      None when in doubt, be it for a rare feature or for damage: PIL then decides.
    """
    header = _header(found)
    if header is None or not _PLAIN_CHUNKS.issuperset([kind for kind, _ in found]):
        return None
    width, height, depth, color_type, *methods = header
    if depth != 8 or color_type not in _PLAIN_COLOR_TYPES or any(methods):
        return None
    if not 0 < width * height <= max_pixels:
        return None
    row_bytes = _row_bytes(header)
    rows = _inflate(found, row_bytes * height)
    if rows is None or max(rows[::row_bytes]) > _LAST_FILTER:
        return None
    return width, height


def has_all_rows(found: list[tuple[bytes, bytes]]) -> bool:
    """Says whether the pixel data is as long as the header promises; False also for an interlaced PNG.

    PIL fills missing rows with black; TensorFlow refuses the file.
    """
    header = _header(found)
    if header is None or any(header[4:]):
        return False
    return _inflate(found, _row_bytes(header) * header[1]) is not None


def _header(found: list[tuple[bytes, bytes]]) -> tuple[int, ...] | None:
    """Returns width, height, depth, color type and three methods, all 0 but for an interlaced image."""
    kind, body = found[0]
    return _HEADER.unpack(body) if kind == b"IHDR" and len(body) == _HEADER.size else None


def _row_bytes(header: tuple[int, ...]) -> int:
    """A row begins with the number of its filter; its pixels are padded to whole bytes."""
    width, _, depth, color_type, *_ = header
    return 1 + (width * depth * _CHANNELS_OF_COLOR_TYPE.get(color_type, 1) + 7) // 8


def _inflate(found: list[tuple[bytes, bytes]], promised: int) -> bytes | None:
    """Returns the filtered rows, or None unless they are exactly as many bytes as the header promises."""
    inflater = zlib.decompressobj()
    try:
        rows = inflater.decompress(b"".join([body for kind, body in found if kind == b"IDAT"]), promised + 1)
    except zlib.error:
        return None
    return rows if inflater.eof and not inflater.unused_data and len(rows) == promised else None
