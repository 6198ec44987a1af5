"""Members of tar and zip archives and records of TFRecord files, each as a candidate image or a reject."""

import contextlib
import gzip
import hashlib
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from google.protobuf.message import DecodeError

from components.image_example_gen import names
from components.image_example_gen.examples import BrokenRecordsError, Example, read_records

_IMAGE_FEATURES = ("image_bytes", "image/encoded", "image", "encoded", "image_raw", "png", "jpg", "jpeg", "img")
_LABEL_FEATURES = ("label", "image/class/text", "image/class/label", "class/text", "class", "class/label", "cls")
_KEY_FEATURES = (
    "key",
    "image/filename",
    "filename",
    "file_name",
    "__key__",
    "image/source_id",
    "image/key/sha256",
    "id",
)
# A class name or number, in a file of its own.
MAX_CLASS_BYTES = 4096
# What a zip's format leaves for a name. A tar may put anything before a member: its name, attributes, a map of holes.
MAX_HEADER_BYTES = 2**16
# tarfile looks for a keyword after digits in a time that grows with the square of their number: seconds for a header
# full of them (CVE-2024-6232; mended in Python 3.10.15, 3.11.10 and 3.12.6). No number or file's name has so many.
_MANY_DIGITS = re.compile(rb"\d{256}")
# A buffer as big as the limit of bytes would be allocated anew for every small image.
_READ_BYTES = 2**16


class Candidate(NamedTuple):
    """Bytes that may be an image. `path` is relative to the source's root or the archive's, and printable."""

    uri: str
    path: str
    data: bytes
    label: str | None = None


Item = Candidate | names.Reject


class _Headers:
    """A tar's stream while tarfile reads what stands before a member, which it takes whole and however long it is."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._left = MAX_HEADER_BYTES
        self.tell = stream.tell

    def read(self, size: int) -> bytes:
        self._left -= size
        if size < 0 or self._left < 0:
            raise tarfile.ReadError(f"the headers of a member are damaged, or longer than {MAX_HEADER_BYTES} bytes")
        data = self._stream.read(size)
        if len(data) < size:
            # Where tarfile takes the missing end for an end, or looks for numbers in it.
            raise tarfile.ReadError("the archive stops between members, or in the headers of one")
        if _MANY_DIGITS.search(data):
            raise tarfile.ReadError("the headers of a member are damaged: no number has 256 digits")
        return data


class _StrictTarInfo(tarfile.TarInfo):
    """tarfile takes a damaged header after the first for the archive's end, and says nothing."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> tarfile.TarInfo:
        stream = tar.fileobj
        if not isinstance(stream, _Headers):  # else it is the next header of the same member
            tar.fileobj = _Headers(stream)
        try:
            return super().fromtarfile(tar)
        except tarfile.InvalidHeaderError as error:
            raise tarfile.ReadError(f"the archive is damaged between members ({error})") from error
        finally:
            tar.fileobj = stream


@contextlib.contextmanager
def _tar_members(open_file: Callable[[], BinaryIO]) -> Iterator[tuple[tarfile.TarFile, Iterator[tarfile.TarInfo]]]:
    """Opens a tar, compressed or not, and gives it with its members as they come; none is held."""
    with open_file() as file, tarfile.open(fileobj=file, mode="r|*", tarinfo=_StrictTarInfo) as tar:
        yield tar, _forgotten(tar)


def _forgotten(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for member in tar:
        yield member
        tar.members.clear()


# What a cut or damaged archive raises while it is read.
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, BrokenRecordsError, EOFError, OSError, zlib.error, ValueError)
# zipfile raises RuntimeError for an encrypted member and NotImplementedError for an unknown compression.
_BAD_MEMBER = (*_BROKEN, RuntimeError, NotImplementedError)


def read_tar(open_file: Callable[[], BinaryIO], uri: str, *, max_bytes: int, want_classes: bool) -> Iterator[Item]:
    """Yields the members of a tar, compressed or not, as they come; an archive that breaks ends as a reject.

    Args:
      open_file: opens the archive anew.
      uri: the archive's printable name; a member's is `uri!member`.
      max_bytes: members over this size are rejected unread.
      want_classes: reads `.cls` members first, for they may come after their image.
    """
    classes: dict[str, str] = {}
    stems: set[str] = set()
    descriptions: list[str] = []
    try:
        if want_classes:
            _collect_classes(open_file, classes)
        with _tar_members(open_file) as (tar, members):
            for member in members:
                name = _tidy(member.name)
                if member.isdir() or names.is_hidden(name) or names.suffix(name) == names.CLASS_SUFFIX:
                    continue
                if names.suffix(name) in names.DESCRIPTION_SUFFIXES:
                    descriptions.append(name)
                    continue
                stems.add(names.sample_stem(name))
                yield _tar_item(tar, member, name, uri, max_bytes, classes)
    except _BROKEN as error:
        yield names.Reject(uri, "broken_archive", _say(error))
    yield from _lone_descriptions(descriptions, stems, uri)


def _collect_classes(open_file: Callable[[], BinaryIO], classes: dict[str, str]) -> None:
    try:
        with _tar_members(open_file) as (tar, members):
            for member in members:
                if member.isfile() and names.suffix(member.name) == names.CLASS_SUFFIX:
                    data = tar.extractfile(member).read(MAX_CLASS_BYTES)
                    classes[names.stem(_tidy(member.name))] = class_text(data)
    except _BROKEN:
        # The pass over the images meets the same damage and reports it.
        return


def class_text(data: bytes) -> str:
    """Returns the class that a `.cls` file names."""
    return data[:MAX_CLASS_BYTES].decode("utf-8", "replace").strip()


def _class_of(name: str, classes: dict[str, str]) -> str | None:
    return classes.get(names.stem(name)) or classes.get(names.sample_stem(name)) or None


def _tar_item(
    tar: tarfile.TarFile,
    member: tarfile.TarInfo,
    name: str,
    uri: str,
    max_bytes: int,
    classes: dict[str, str],
) -> Item:
    member_uri = f"{uri}!{names.text(name)}"
    if names.climbs_out(member.name):
        return names.Reject(member_uri, "unsafe_path", "the member's path is absolute or climbs out with '..'")
    if member.issym() or member.islnk():
        return names.Reject(member_uri, "link", f"a link to {names.text(member.linkname)!r} is not followed")
    if not member.isfile():
        return names.Reject(member_uri, "not_a_file", "a device or pipe")
    if member.size > max_bytes:
        return too_large(member_uri, member.size, max_bytes)
    return Candidate(member_uri, names.text(name), tar.extractfile(member).read(), _class_of(name, classes))


def read_zip(open_file: Callable[[], BinaryIO], uri: str, *, max_bytes: int, want_classes: bool) -> Iterator[Item]:
    """Yields the members of a zip; arguments as for `read_tar`."""
    try:
        with open_file() as file, zipfile.ZipFile(file) as archive:
            members = [m for m in archive.infolist() if not m.is_dir() and not names.is_hidden(_tidy(m.filename))]
            images, classes, descriptions = [], {}, []
            for member in members:
                kind = names.suffix(member.filename)
                if kind == names.CLASS_SUFFIX:
                    if want_classes:
                        classes[names.stem(_tidy(member.filename))] = _zip_class(archive, member)
                elif kind in names.DESCRIPTION_SUFFIXES:
                    descriptions.append(_tidy(member.filename))
                else:
                    images.append(member)
            for member in images:
                yield _zip_item(archive, member, uri, max_bytes, classes)
            stems = {names.sample_stem(_tidy(member.filename)) for member in images}
            yield from _lone_descriptions(descriptions, stems, uri)
    except _BAD_MEMBER as error:
        yield names.Reject(uri, "broken_archive", _say(error))


def _zip_class(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> str:
    try:
        with archive.open(member) as opened:
            return class_text(opened.read(MAX_CLASS_BYTES))
    except _BAD_MEMBER:
        # Its image then has no label, and is reported for that.
        return ""


def _zip_item(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, uri: str, max_bytes: int, classes: dict[str, str]
) -> Item:
    name = _tidy(member.filename)
    member_uri = f"{uri}!{names.text(name)}"
    if names.climbs_out(member.filename):
        return names.Reject(member_uri, "unsafe_path", "the member's path is absolute or climbs out with '..'")
    if stat.S_ISLNK(member.external_attr >> 16):
        return names.Reject(member_uri, "link", "a symbolic link is not followed")
    if member.flag_bits & 1:
        return names.Reject(member_uri, "encrypted", "the member is encrypted")
    if member.file_size > max_bytes:
        return too_large(member_uri, member.file_size, max_bytes)
    try:
        with archive.open(member) as opened:
            # The stated size can lie; the read cannot.
            data = read_limited(opened.read, max_bytes)
    except _BAD_MEMBER as error:
        return names.Reject(member_uri, "corrupt", _say(error))
    if len(data) > max_bytes:
        return too_large(member_uri, len(data), max_bytes)
    return Candidate(member_uri, names.text(name), data, _class_of(name, classes))


def _lone_descriptions(descriptions: list[str], stems: set[str], uri: str) -> Iterator[names.Reject]:
    """A .json or .txt member describes the image it shares a key with; without one it is a stray file."""
    for name in descriptions:
        if names.sample_stem(name) not in stems:
            yield names.Reject(f"{uri}!{names.text(name)}", "not_an_image", "a text file that belongs to no image")


def read_limited(read: Callable[[int], bytes], max_bytes: int) -> bytes:
    """Returns what `read` gives until it gives nothing more, or gave over `max_bytes` bytes."""
    pieces, size = [], 0
    while size <= max_bytes and (data := read(min(max(_READ_BYTES, size), max_bytes + 1 - size))):
        pieces.append(data)
        size += len(data)
    return b"".join(pieces)


def too_large(uri: str, size: int, max_bytes: int) -> names.Reject:
    """Returns the reject of a file that is over the limit of bytes."""
    return names.Reject(uri, "too_many_bytes", f"{size} bytes or more is over the limit of {max_bytes} (max_pixels)")


def read_tfrecords(open_file: Callable[[], BinaryIO], uri: str, *, max_bytes: int) -> Iterator[Item]:
    """Yields the images of a TFRecord file of tf.train.Example, compressed if its name ends in .gz."""
    try:
        with open_file() as raw:
            file = gzip.GzipFile(fileobj=raw) if uri.lower().endswith(".gz") else raw
            # A record holds an image and some words.
            for number, record in enumerate(read_records(file, max_record_bytes=max_bytes)):
                yield _record_item(record, f"{uri}!{number}")
    except _BROKEN as error:
        yield names.Reject(uri, "broken_archive", _say(error))


def _record_item(record: bytes, uri: str) -> Item:
    try:
        feature = Example.FromString(record).features.feature
    except DecodeError as error:
        return names.Reject(uri, "not_an_example", f"the record is no tf.train.Example ({error})")
    values = {name: value for name in feature if (value := _single_value(feature[name])) is not None}
    data = next((values[name] for name in _IMAGE_FEATURES if isinstance(values.get(name), bytes)), None)
    if data is None:
        found = ", ".join(sorted(feature)) or "none"
        return names.Reject(uri, "not_an_image", f"no feature with encoded image bytes; features found: {found}")
    key = next((values[name] for name in _KEY_FEATURES if values.get(name)), None)
    label = next((values[name] for name in _LABEL_FEATURES if name in values), None)
    path = _words(key) if key is not None else hashlib.sha256(data).hexdigest()
    return Candidate(uri, path, data, None if label is None else _words(label).strip() or None)


def _single_value(feature: Example) -> bytes | int | None:
    values = feature.bytes_list.value or feature.int64_list.value
    return values[0] if len(values) == 1 else None


def _words(value: bytes | int) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _tidy(name: str) -> str:
    return name.removeprefix("./")


def _say(error: BaseException) -> str:
    return f"{error or type(error).__name__}; what came before the damage was kept"
