"""Whether two SavedModels are the same: a hash of their files."""

import hashlib
import posixpath

from tfx.dsl.io import fileio

from components.push.pointer import ADDED_FOLDER

# Kept inside the version, so that one rename brings both; assets.extra is where servers expect what isn't theirs.
FINGERPRINT_FILE = "assets.extra/fingerprint.sha256"
_CHUNK_BYTES = 1 << 20


def model_files(model_path: str) -> list[str]:
    """Lists a SavedModel's files, relative to it and sorted, without what a push adds."""
    root = model_path.rstrip("/")
    found = [
        posixpath.join(directory, name)[len(root) + 1 :]
        for directory, _, names in fileio.walk(root)
        for name in names
    ]
    return sorted(
        relative for relative in found if relative != FINGERPRINT_FILE and not relative.startswith(f"{ADDED_FOLDER}/")
    )


def fingerprint(model_path: str) -> str:
    """Hashes a SavedModel: hex sha256 over the relative paths and the contents of its files.

    Args:
      model_path: directory of the SavedModel, local or remote.

    Returns:
      64 hex digits; equal for equal paths and contents, whatever the directory's own name and times.

    Raises:
      ValueError: if there is no SavedModel.
    """
    if not fileio.exists(posixpath.join(model_path, "saved_model.pb")):
        raise ValueError(f"A model to push is a SavedModel; {model_path} has no saved_model.pb. Rerun its Trainer.")
    whole = hashlib.sha256()
    for relative in model_files(model_path):
        content = hashlib.sha256()
        with fileio.open(posixpath.join(model_path, relative), "rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                content.update(chunk)
        whole.update(f"{relative}\0{content.hexdigest()}\n".encode())
    return whole.hexdigest()


def recorded_fingerprint(version_path: str) -> str:
    """The fingerprint of a pushed version as recorded with it, made anew where another tool has put it there.

    Args:
      version_path: directory of the version, local or remote.
    """
    recorded = posixpath.join(version_path, FINGERPRINT_FILE)
    if not fileio.exists(recorded):
        return fingerprint(version_path)
    with fileio.open(recorded, "r") as file:
        return file.read()


def is_as_pushed(version_path: str) -> bool:
    """Whether a version is there and its files are those of its fingerprint, which another tool's version lacks.

    Args:
      version_path: directory of the version, local or remote.
    """
    if not fileio.exists(posixpath.join(version_path, "saved_model.pb")):
        return False
    return fingerprint(version_path) == recorded_fingerprint(version_path)
