"""What happens to an image before the network, the same in training and in serving: decode, canonicalise, crop."""

import struct

import tensorflow as tf

_MAX_LONG_SIDE = 2  # short sides; a panorama keeps its middle, so that batches need not be padded without end
_PNG_BEGINS = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_EVALUATION_CROP = 0.875  # arXiv 2002.05709, appendix B; not at 32 px or under
_NO_CROP_SIZE_PX = 32


def canonical_png(encoded: tf.Tensor, *, short_side_px: tf.Tensor) -> tf.Tensor:
    """Encoded images of any size → PNGs whose short side is the given one: deterministic, no augmentation.

    Args:
        encoded: [B] string, each a JPEG, PNG, GIF or BMP.
        short_side_px: scalar integer > 0.

    Returns:
        [B] string, PNGs of RGB uint8; sides keep their proportion up to 1:2, beyond that the middle is kept.
    """

    def canonicalize(image_bytes: tf.Tensor) -> tf.Tensor:
        return tf.io.encode_png(canonical_image(image_bytes, short_side_px=short_side_px))

    return tf.map_fn(canonicalize, encoded, fn_output_signature=tf.string)


def canonical_image(encoded: tf.Tensor, *, short_side_px: tf.Tensor) -> tf.Tensor:
    """What `canonical_png` encodes, for one image: scalar string → [H, W, 3] uint8."""
    image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    image.set_shape([None, None, 3])
    shape = tf.shape(image)
    longest = _MAX_LONG_SIDE * tf.minimum(shape[0], shape[1])
    size = canonical_size(shape[:2], short_side_px=short_side_px)
    image = _center_crop(image, tf.minimum(shape[0], longest), tf.minimum(shape[1], longest))

    def resize() -> tf.Tensor:
        resized = tf.image.resize(image, size, antialias=True)
        return tf.cast(tf.clip_by_value(tf.round(resized), 0.0, 255.0), tf.uint8)

    return tf.cond(tf.reduce_all(tf.equal(size, tf.shape(image)[:2])), lambda: image, resize)


def canonical_size(sizes: tf.Tensor, *, short_side_px: tf.Tensor) -> tf.Tensor:
    """Heights and widths after `canonical_image`: [..., 2] integer → [..., 2] int32."""
    shortest = tf.reduce_min(sizes, axis=-1, keepdims=True)
    kept = tf.cast(tf.minimum(sizes, _MAX_LONG_SIDE * shortest), tf.float64)
    scale = tf.cast(short_side_px, tf.float64) / tf.cast(shortest, tf.float64)
    return tf.cast(tf.round(kept * scale), tf.int32)


def encoded_size(header: bytes) -> tuple[int, int]:
    """Height and width of an encoded image from its first bytes.

    Args:
        header: of a JPEG, PNG, GIF or BMP; a JPEG's must reach to its frame header, which follows the metadata.

    Raises:
        ValueError: the bytes are of no such image, or end too early.
    """
    try:
        if header.startswith(b"\x89PNG\r\n\x1a\n"):
            width, height = struct.unpack_from(">II", header, 16)
        elif header.startswith((b"GIF87a", b"GIF89a")):
            width, height = struct.unpack_from("<HH", header, 6)
        elif header.startswith(b"BM"):
            width, height = struct.unpack_from("<ii", header, 18)
        else:
            height, width, _ = tf.io.extract_jpeg_shape(header).numpy()
    except (struct.error, tf.errors.InvalidArgumentError) as error:
        # TensorFlow's own words name an op of its graph.
        raise ValueError(f"no JPEG, PNG, GIF or BMP of which {len(header)} bytes tell the size") from error
    # A BMP's height is negative where its rows go from top to bottom.
    return abs(int(height)), int(width)


def decode_png(png: tf.Tensor) -> tf.Tensor:
    """A canonical PNG → [H, W, 3] uint8."""
    image = tf.io.decode_png(png, channels=3)
    image.set_shape([None, None, 3])
    return image


def evaluation_view(image: tf.Tensor, *, size_px: int) -> tf.Tensor:
    """The view that evaluation and serving give the network: centre crop, resize, [0, 1].

    Args:
        image: [H, W, 3] uint8, canonical.
        size_px: side of the network's input; over 32 px the crop keeps 0.875 of the short side.

    Returns:
        [size, size, 3] float32 in [0, 1].
    """
    short_side = tf.minimum(tf.shape(image)[0], tf.shape(image)[1])
    if size_px > _NO_CROP_SIZE_PX:
        short_side = tf.cast(tf.round(tf.cast(short_side, tf.float32) * _EVALUATION_CROP), tf.int32)
    square = _center_crop(image, short_side, short_side)
    resized = tf.image.resize(square, [size_px, size_px], antialias=True)
    # Times, not over: TensorFlow rewrites a division by a constant in some graphs only, and one ulp differs.
    return tf.clip_by_value(resized, 0.0, 255.0) * (1.0 / 255.0)


def _center_crop(image: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    shape = tf.shape(image)
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def png_size(png: tf.Tensor) -> tf.Tensor:
    """Height and width of a PNG from its header, without decoding it: scalar string → [2] int32.

    Raises:
        tf.errors.InvalidArgumentError: the bytes do not begin as those of a PNG do, or its sides are none.
    """
    # Not assert_equal, whose message would hold the bytes, and TensorFlow takes messages for UTF-8.
    tf.debugging.Assert(tf.strings.substr(png, 0, len(_PNG_BEGINS)) == _PNG_BEGINS, ["no PNG"])
    header = tf.cast(tf.io.decode_raw(tf.strings.substr(png, 16, 8), tf.uint8), tf.int32)
    width_height = tf.reduce_sum(tf.reshape(header, [2, 4]) * tf.constant([1 << 24, 1 << 16, 1 << 8, 1]), axis=1)
    tf.debugging.Assert(tf.reduce_all(width_height > 0), ["a PNG without sides"])
    return width_height[::-1]
