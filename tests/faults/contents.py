"""What of a file must be the same wherever and whenever it was written, whatever died meanwhile: a digest of it."""

import csv
import functools
import gzip
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_metadata.proto.v0 import anomalies_pb2

from components.image_example_gen.examples import Example, read_records

# These count by their names alone.
_BLIND = {
    "fingerprint.pb",  # TensorFlow's hash of saved_model.pb, names and all
    "fingerprint.sha256",  # ours, of the whole model
    "report.html",  # seconds of each node, and which of them came from the cache; metrics.json has its figures
}
_SPEED_COLUMNS = {"images_per_s", "input_wait_share"}
_OUTPUT, _TIME = "the output", "a time"
_EXECUTION = re.compile(r"(artifacts/[\w-]+/[\w-]+)/\d+")
_TIMES = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\+00:00| UTC)?")
# A span that a dying run has made is there already for the next one, which then tells of no delivery.
_OF_THE_CYCLE = frozenset({"made", "delivery", "notes"})


def digest(path: Path, output: Path) -> str:
    """A hash of what must be the same.

    Args:
        path: of a file that a node or a push has written.
        output: folder of the run; paths in it are left out, and executions' numbers in them, and times.
    """
    if path.name in _BLIND:
        return "not compared"
    form = _FORMS.get(path.name) or _FORMS.get(path.suffix)
    content = path.read_bytes()
    return hashlib.sha256(form(content, str(output)) if form else content).hexdigest()


def _text(content: bytes, output: str) -> bytes:
    # A push that was killed behind its last rename finds its version there, and says so.
    content = content.replace(b"Already pushed as", b"Pushed as")
    return _TIMES.sub(_TIME, _EXECUTION.sub(r"\1", content.decode().replace(output, _OUTPUT))).encode()


def _json(content: bytes, output: str, *, dropped: frozenset[str] = frozenset()) -> bytes:
    return json.dumps(_without(json.loads(_text(content, output)), dropped), sort_keys=True).encode()


def _lines(content: bytes, output: str) -> bytes:
    dropped = frozenset({"time", "candidate"})
    return b"\n".join(_json(line, output, dropped=dropped) for line in content.splitlines())


def _metrics(content: bytes, output: str) -> bytes:
    told = json.loads(_text(content, output))
    if told["spans"]:
        told["spans"] = _without(told["spans"], _OF_THE_CYCLE)
    return json.dumps(told, sort_keys=True).encode()


def _without(told: Any, dropped: frozenset[str]) -> Any:
    return {name: value for name, value in told.items() if name not in dropped} if dropped else told


def _history(content: bytes, _: str) -> bytes:
    rows = csv.DictReader(io.StringIO(content.decode()))
    return json.dumps(
        [{name: value for name, value in row.items() if name not in _SPEED_COLUMNS} for row in rows]
    ).encode()


def _saved_model(content: bytes, output: str) -> bytes:
    """All that a graph says but its numbers: TensorFlow counts its functions up as a process makes them."""
    told = text_format.MessageToString(saved_model_pb2.SavedModel.FromString(content)).replace(output, _OUTPUT)
    return "\n".join(sorted(re.sub(r"\d+", "", line) for line in told.splitlines())).encode()


def _anomalies(content: bytes, _: str) -> bytes:
    """A map, written in any order."""
    return anomalies_pb2.Anomalies.FromString(content).SerializeToString(deterministic=True)


def _examples(content: bytes, _: str) -> bytes:
    """Examples that Beam has written, in any order, as their features are; the last bit of a sum is the threads'."""
    records = read_records(io.BytesIO(gzip.decompress(content)), max_record_bytes=2**30)
    return b"".join(sorted(_in_one_order(record) for record in records))


def _in_one_order(record: bytes) -> bytes:
    feature, values = Example.FromString(record).features.feature, []
    for name in sorted(feature):
        floats = _shortened(feature[name].float_list.value)
        values.append(f"{name}{floats}".encode() if floats else name.encode() + feature[name].SerializeToString())
    return b"".join(values)


def _channels(content: bytes, _: str) -> bytes:
    """Mean and deviation of each colour, which Transform has summed up."""
    told = json.loads(content)
    return json.dumps({name: _shortened(told[name]) for name in sorted(told)}).encode()


def _shortened(numbers: Iterable[float]) -> list[str]:
    return [f"{number:.5g}" for number in numbers]


_FORMS: dict[str, Callable[[bytes, str], bytes]] = {
    "SchemaDiff.pb": _anomalies,
    "channels.json": _channels,
    "history.csv": _history,
    "metrics.json": _metrics,
    "record.json": functools.partial(_json, dropped=frozenset({"candidate"})),  # a fingerprint of ours
    "saved_model.pb": _saved_model,
    "spans.json": functools.partial(_json, dropped=_OF_THE_CYCLE),
    ".gz": _examples,
    ".html": _text,
    ".json": _json,
    ".jsonl": _lines,
    ".md": _text,
}
