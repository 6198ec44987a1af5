"""Buckets as folders: what a job says of gs:// is kept under one local folder."""

from pathlib import Path
from typing import Any

_SCHEME = "gs://"


def local_buckets(value: Any, folder: Path) -> Any:
    """Rewrites `gs://bucket/name` to `folder/bucket/name` in all strings of a JSON value, JSON within strings too.

    Args:
        value: of a job: an object, a list, a string, anything else.
        folder: of the buckets, absolute.

    Returns:
        The same value with other strings.

    Raises:
        ValueError: the folder's name would break a JSON string or a command line that it is put into.
    """
    if set('"\\\n') & set(str(folder)):
        raise ValueError(f"a folder of buckets is written into JSON: no quote or backslash in its name; got {folder}")
    if isinstance(value, dict):
        return {key: local_buckets(item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [local_buckets(item, folder) for item in value]
    return value.replace(_SCHEME, f"{folder}/") if isinstance(value, str) else value
