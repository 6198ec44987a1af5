"""Names of files and archive members: what is hidden, what is safe, what is a key."""

import dataclasses
import posixpath
import re

IMAGE_SUFFIXES = frozenset(
    [
        ".png",
        ".apng",
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".gif",
        ".webp",
        ".bmp",
        ".dib",
        ".tif",
        ".tiff",
        ".avif",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
    ]
)
MANIFEST_SUFFIXES = (".csv", ".tsv", ".jsonl")
# Only ever the label or the description of the image beside them.
CLASS_SUFFIX = ".cls"
DESCRIPTION_SUFFIXES = (".json", ".txt")
# A part that begins with a dot but is no lone dot, that is an operating system's own, or that ends an upload.
_HIDDEN = re.compile(r"(?:^|/)(?:\.(?!/|\Z)|(?:__MACOSX|Thumbs\.db|desktop\.ini|_SUCCESS)(?:/|\Z))")
_DRIVE = re.compile(r"^[A-Za-z]:[\\/]")
# `x.tfrecord`, `x.tfrecords.gz`, and the sharded names that TFX and TensorFlow Datasets write.
_TFRECORDS = re.compile(r"(^|[._-])tfrecords?(-\d+-of-\d+)?(\.gz)?$", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Reject:
    """Something that was read but is not kept: `reason` is a stable word, `detail` is for a person."""

    uri: str
    reason: str
    detail: str


def text(name: str) -> str:
    """Returns `name` as valid Unicode: bytes that were not UTF-8 appear as `\\xNN`."""
    if name.isascii():
        return name
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_hidden(path: str) -> bool:
    """Says whether a relative path is litter, or an upload's marker; one that climbs out is worse than that."""
    return _HIDDEN.search(path) is not None and not climbs_out(path)


def climbs_out(member: str) -> bool:
    """Says whether an archive member's path is absolute or leads out of the archive's own tree."""
    parts = member.replace("\\", "/").split("/")
    return member.startswith(("/", "\\")) or bool(_DRIVE.match(member)) or ".." in parts


def suffix(path: str) -> str:
    """Returns the last extension in lower case, with its dot, or ''."""
    return posixpath.splitext(path)[1].lower()


def stem(path: str) -> str:
    """Returns `path` without its last extension."""
    return posixpath.splitext(path)[0]


def sample_stem(path: str) -> str:
    """Returns WebDataset's key of a member: its path up to the first dot of its base name."""
    folder, base = posixpath.split(path)
    return posixpath.join(folder, base.split(".")[0])


def key_of(path: str) -> str:
    """Returns an image's key: its relative path without the extension, if that is an image's."""
    root, end = posixpath.splitext(path)
    return root if end.lower() in IMAGE_SUFFIXES else path


def archive_kind(path: str) -> str | None:
    """Returns 'tar', 'zip' or 'tfrecords' by the file's name; None for anything else."""
    lower = path.lower()
    if lower.endswith((".tar", ".tar.gz", ".tgz")):
        return "tar"
    if lower.endswith(".zip"):
        return "zip"
    return "tfrecords" if _TFRECORDS.search(posixpath.basename(lower)) else None
