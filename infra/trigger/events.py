"""CloudEvents of Cloud Storage: read in both of HTTP's forms, and told apart: what says that an upload is whole?"""

import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

FINALIZED = "google.cloud.storage.object.v1.finalized"
BINARY, STRUCTURED = "application/json", "application/cloudevents+json"
# Of Cloud Storage, in UTF-8.
_MAX_NAME_BYTES = 1024
_MAX_ATTRIBUTE_LENGTH = 1024
_MAX_GENERATION = 2**63
_ATTRIBUTES = ("specversion", "id", "source", "type")


class MalformedError(ValueError):
    """It is no CloudEvent, or none of Cloud Storage."""


class NotOursError(ValueError):
    """A sound event that starts nothing and should not have come; sent again it would still start nothing."""


@dataclass(frozen=True)
class Event:
    """A CloudEvent.

    Attributes:
        id: of the event, for the log.
        source: who tells it.
        type: what happened.
        data: the object of Cloud Storage.
    """

    id: str
    source: str
    type: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Marker:
    """The object that says that an upload is whole.

    Attributes:
        bucket: that it is in.
        name: of the object.
        generation: of its content; another upload of the name has another.
    """

    bucket: str
    name: str
    generation: int


def read(mime_type: str, headers: Mapping[str, str], body: bytes) -> Event:
    """An event from a request in binary mode, attributes in headers, or in structured mode, all in the body.

    Args:
        mime_type: BINARY or STRUCTURED.
        headers: of the request.
        body: JSON.

    Raises:
        MalformedError: it is no CloudEvent 1.0 with an object of JSON.
    """
    content = _object(body)
    if mime_type == STRUCTURED:
        attributes, data = content, content.get("data")
    else:
        attributes = {name: unquote(headers.get(f"ce-{name}", "")) for name in _ATTRIBUTES}
        data = content
    for name in _ATTRIBUTES:
        value = attributes.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= _MAX_ATTRIBUTE_LENGTH:
            raise MalformedError(f"a CloudEvent has the attribute {name}, of 1 to {_MAX_ATTRIBUTE_LENGTH} characters")
    if attributes["specversion"] != "1.0":
        raise MalformedError("the CloudEvent must be of version 1.0")
    if not isinstance(data, dict):
        raise MalformedError("the data of the CloudEvent must be an object of JSON")
    return Event(attributes["id"], attributes["source"], attributes["type"], data)


def marker(event: Event, *, bucket: str, name: str) -> Marker | None:
    """The marker that the event tells of; None: of another object, as most events are.

    Args:
        event: of Cloud Storage.
        bucket: the only one that is listened to.
        name: of markers, in whatever folder.

    Raises:
        NotOursError: another type, another bucket, or a name that no upload has.
        MalformedError: the object has no name, no bucket or no generation, or another bucket than the event's source.
    """
    if event.type != FINALIZED:
        raise NotOursError("the event is of another type")
    found, path = event.data.get("bucket"), event.data.get("name")
    if not isinstance(found, str) or not isinstance(path, str):
        raise MalformedError("the object has no bucket, or no name")
    if event.source != f"//storage.googleapis.com/projects/_/buckets/{found}":
        raise MalformedError("the object is in another bucket than the source of the event")
    if found != bucket:
        raise NotOursError("the object is in another bucket")
    if path.rpartition("/")[2] != name:
        return None
    if not _is_sound(path):
        raise NotOursError("the marker's name is none that an upload gives")
    return Marker(found, path, _generation(event.data.get("generation")))


def _object(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body.decode("utf-8"))
    # A body of brackets only is deeper than the interpreter's stack.
    except (ValueError, RecursionError) as problem:
        raise MalformedError(f"the body is no JSON: {type(problem).__name__}") from problem
    if not isinstance(content, dict):
        raise MalformedError("the body must be an object of JSON")
    return content


def _is_sound(path: str) -> bool:
    """Whether Cloud Storage takes the name, and whether it is that of a folder's file, without tricks."""
    try:
        is_short = len(path.encode("utf-8")) <= _MAX_NAME_BYTES
    except UnicodeEncodeError:
        return False
    has_control = any(unicodedata.category(character) == "Cc" for character in path)
    return is_short and not has_control and not {"", ".", ".."} & set(path.split("/"))


def _generation(value: Any) -> int:
    """Cloud Storage tells numbers of 64 bits as text."""
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(_MAX_GENERATION)) and int(text) > 0):
        raise MalformedError("the object has no generation")
    return int(text)
