"""Labels of a labelled source: manifests, and how an image finds its row."""

import csv
import dataclasses
import functools
import io
import json
import posixpath
from collections.abc import Iterator

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from components.image_example_gen import names

_NAME_COLUMNS = ("path", "key", "file", "filename", "image")
_LABEL_COLUMNS = ("label", "class")
_SPLITS = {"": None, "train": "train", "test": "test", "val": "test", "validation": "test"}

HOW_TO_LABEL = (
    "Give labels in one of these ways: put the images in folders named after their class; put a text file "
    "<name>.cls with the class beside each image in a WebDataset tar; or put a manifest labels.csv, labels.tsv "
    "or labels.jsonl with the columns path,label (optional: split) beside the images."
)


@dataclasses.dataclass(frozen=True)
class Row:
    """A manifest's word on one image; `split` is None where the manifest leaves it open."""

    name: str
    label: str | None
    split: str | None


@dataclasses.dataclass(frozen=True)
class Match:
    """A row and whether only its base name fitted, which counts only if it fits no other image."""

    row: Row
    by_basename: bool


class Manifest:
    """Rows by the name they give: a key, a path relative to the images' folder or the manifest's, or a base name."""

    def __init__(self, rows: dict[str, Row], folder: str):
        self._rows = rows
        self._folder = folder

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def has_test_rows(self) -> bool:
        """True if a row puts its image into the test split."""
        return any(row.split == "test" for row in self._rows.values())

    def find(self, path: str, uri: str) -> Match | None:
        """Returns the row that names the image with this relative path and full URI, or None."""
        exact = [path, names.key_of(path), uri]
        if uri.startswith(self._folder + "/"):
            beside = uri[len(self._folder) + 1 :]
            exact += [beside, names.key_of(beside)]
        for name in exact:
            if name in self._rows:
                return Match(self._rows[name], by_basename=False)
        base = posixpath.basename(path)
        for name in (base, names.key_of(base)):
            if name in self._rows:
                return Match(self._rows[name], by_basename=True)
        return None


@functools.lru_cache(maxsize=8)
def load_manifest(uri: str) -> Manifest:
    """Reads a manifest once a process.

    Raises:
      ValueError: naming file, line and remedy, for a missing column, bad JSON, an unknown split, or a name
        that has two labels.
    """
    rows: dict[str, Row] = {}
    for line, values in _read_rows(uri):
        row = _row(uri, line, values)
        earlier = rows.setdefault(row.name, row)
        if earlier != row:
            raise ValueError(
                f"{uri}, line {line}: {row.name!r} is {row.label!r} ({row.split}) here and {earlier.label!r} "
                f"({earlier.split}) in an earlier line. Keep one of them."
            )
    if not rows:
        raise ValueError(f"{uri}: the manifest has no rows. {HOW_TO_LABEL}")
    return Manifest(rows, posixpath.dirname(uri))


def is_manifest(uri: str) -> bool:
    """Says whether a file of a manifest's suffix also has its columns."""
    try:
        load_manifest(uri)
    except ValueError:
        return False
    return True


def _row(uri: str, line: int, values: dict[str, object]) -> Row:
    columns = {str(name).strip().lower(): value for name, value in values.items()}
    name = _first(columns, _NAME_COLUMNS)
    label = _first(columns, _LABEL_COLUMNS)
    if name is None or label is None:
        wanted = "|".join(_NAME_COLUMNS if name is None else _LABEL_COLUMNS)
        found = ", ".join(sorted(columns)) or "none"
        raise ValueError(f"{uri}, line {line}: needs a value in a column {wanted}; columns found: {found}.")
    split = str(columns.get("split") or "").strip().lower()
    if split not in _SPLITS:
        allowed = ", ".join(filter(None, _SPLITS))
        raise ValueError(f"{uri}, line {line}: split is {split!r}. Use one of {allowed}, or leave it empty.")
    return Row(_clean(str(name)), str(label).strip() or None, _SPLITS[split])


def _first(columns: dict[str, object], wanted: tuple[str, ...]) -> object | None:
    return next((columns[name] for name in wanted if columns.get(name) is not None), None)


def _clean(name: str) -> str:
    """Undoes what spreadsheets and Windows do to paths."""
    name = name.strip()
    if "/" not in name:
        name = name.replace("\\", "/")
    return name.removeprefix("./")


def _read_rows(uri: str) -> Iterator[tuple[int, dict[str, object]]]:
    with FileSystems.open(uri, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        data = file.read()
    try:
        content = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(f"{uri}, line {line}: not UTF-8 ({error.reason}). Save the manifest as UTF-8.") from error
    if names.suffix(uri) == ".jsonl":
        yield from _read_jsonl(uri, content)
        return
    reader = csv.DictReader(io.StringIO(content, newline=""), delimiter="\t" if names.suffix(uri) == ".tsv" else ",")
    try:
        for values in reader:
            # Fields past the header land under None, and would otherwise be lost silently.
            if None in values:
                raise ValueError(
                    f"{uri}, line {reader.line_num}: more values than the {len(values) - 1} columns of the header. "
                    "Quote values that contain the delimiter."
                )
            yield reader.line_num, values
    except csv.Error as error:
        raise ValueError(f"{uri}, line {reader.line_num}: {error}. Mend the line's quoting.") from error


def _read_jsonl(uri: str, content: str) -> Iterator[tuple[int, dict[str, object]]]:
    # Not str.splitlines, which also splits at separators that JSON allows inside a string.
    for line, row in enumerate(content.split("\n"), start=1):
        if not row.strip():
            continue
        try:
            values = json.loads(row)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{uri}, line {line}: bad JSON ({error}). Write one object a line.") from error
        if not isinstance(values, dict):
            raise ValueError(f"{uri}, line {line}: {row.strip()[:40]!r} is not an object. Write one object a line.")
        yield line, values
