"""tf.train.Example and TFRecord files without TensorFlow, whose import costs a Beam worker seconds."""

import functools
from collections.abc import Iterator
from typing import BinaryIO

import google_crc32c
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_HEADER_BYTES = 12
_FOOTER_BYTES = 4
# TFRecord stores checksums rotated and shifted by this (tensorflow/core/lib/hash/crc32c.h).
_MASK_DELTA = 0xA282EAD8
# Tags of a message's first three fields where a length follows (wire type 2).
_FIRST, _SECOND, _THIRD = (bytes((number << 3 | 2,)) for number in (1, 2, 3))


class BrokenRecordsError(ValueError):
    """The file is not, or stops being, a TFRecord file."""


def _example_class() -> type:
    """Builds the message class of tensorflow/core/example/{example,feature}.proto, in a pool of its own."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")

    def message(name: str, *fields: tuple) -> descriptor_pb2.DescriptorProto:
        added = file.message_type.add(name=name)
        for number, (field_name, kind, label, type_name) in enumerate(fields, start=1):
            added.field.add(name=field_name, number=number, type=kind, label=label, type_name=type_name)
        return added

    one, many = field.LABEL_OPTIONAL, field.LABEL_REPEATED
    message("BytesList", ("value", field.TYPE_BYTES, many, None))
    message("FloatList", ("value", field.TYPE_FLOAT, many, None))
    message("Int64List", ("value", field.TYPE_INT64, many, None))
    feature = message(
        "Feature",
        ("bytes_list", field.TYPE_MESSAGE, one, ".tensorflow.BytesList"),
        ("float_list", field.TYPE_MESSAGE, one, ".tensorflow.FloatList"),
        ("int64_list", field.TYPE_MESSAGE, one, ".tensorflow.Int64List"),
    )
    feature.oneof_decl.add(name="kind")
    for choice in feature.field:
        choice.oneof_index = 0
    features = message("Features", ("feature", field.TYPE_MESSAGE, many, ".tensorflow.Features.FeatureEntry"))
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=field.TYPE_STRING, label=one)
    entry.field.add(name="value", number=2, type=field.TYPE_MESSAGE, label=one, type_name=".tensorflow.Feature")
    message("Example", ("features", field.TYPE_MESSAGE, one, ".tensorflow.Features"))

    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    example = pool.FindMessageTypeByName("tensorflow.Example")
    # protobuf 3.20, with TFX 1.16, has only the method; from 5 on, with TFX 1.21, there is only the function.
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(example)
    return message_factory.MessageFactory(pool).GetPrototype(example)


Example = _example_class()


def serialise(values: dict[str, bytes | int]) -> bytes:
    """Returns a tf.train.Example with one value a feature, features in the order of their names.

    The wire format is put together here: with small images the message class takes longer than all else that a
    writer does. Tests compare it with TensorFlow's bytes.
    """
    pieces = []
    for name, value in sorted(values.items()):
        kind, content = (_FIRST, value) if isinstance(value, bytes) else (_THIRD, _varint(value))
        pieces += (_frame(name, kind, len(content)), content)
    return b"".join((_FIRST, _varint(sum(map(len, pieces))), *pieces))


@functools.lru_cache(maxsize=2**14)
def _frame(name: str, kind: bytes, size: int) -> bytes:
    """Returns what stands before a feature's only value of `size` bytes; few sizes are common."""
    encoded = name.encode()
    frame = _FIRST + _varint(size)
    # From the inside out: the list of values, the feature, and its name's entry among the features.
    frame = kind + _varint(len(frame) + size) + frame
    frame = _FIRST + _varint(len(encoded)) + encoded + _SECOND + _varint(len(frame) + size) + frame
    return _FIRST + _varint(len(frame) + size) + frame


def _varint(value: int) -> bytes:
    """Returns a non-negative integer in groups of 7 bits, the lowest first, all but the last marked."""
    if value < 0x80:
        return bytes((value,))
    groups = bytearray()
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def write_record(file: BinaryIO, record: bytes) -> None:
    """Appends one TFRecord to a file: length, its checksum, the record, its checksum."""
    length = len(record).to_bytes(8, "little")
    file.write(b"".join((length, _checksum(length), record, _checksum(record))))


def read_records(file: BinaryIO, *, max_record_bytes: int) -> Iterator[bytes]:
    """Yields the records of an open, uncompressed TFRecord file.

    Raises:
      BrokenRecordsError: at the first record that is cut short, damaged, or longer than `max_record_bytes`, which
        is never read.
    """
    while header := file.read(_HEADER_BYTES):
        length = int.from_bytes(header[:8], "little")
        if len(header) < _HEADER_BYTES or _checksum(header[:8]) != header[8:]:
            raise BrokenRecordsError("a record's header is cut short or damaged")
        if length > max_record_bytes:
            raise BrokenRecordsError(f"a record of {length} bytes is over the limit of {max_record_bytes}")
        body = file.read(length + _FOOTER_BYTES)
        record, footer = body[:length], body[length:]
        if len(body) < length + _FOOTER_BYTES or _checksum(record) != footer:
            raise BrokenRecordsError("a record is cut short or fails its checksum")
        yield record


def _checksum(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return (((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF).to_bytes(4, "little")
