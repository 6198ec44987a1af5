"""The version of the code that a node depends on, for its cache key: a change in it re-runs the node."""

import hashlib
from functools import cache
from pathlib import Path

import grimp

_PACKAGES = ("components", "trainer")
_DIGEST_LENGTH = 16


def code_version(module: str) -> str:
    """Hash of a module, of all of our modules that it imports, directly or not, and of the data files beside them.

    Args:
        module: dotted name under `components` or `trainer`.

    Returns:
        16 hexadecimal digits.
    """
    modules = {module} | _import_graph().find_upstream_modules(module)
    files = {file for name in modules for file in _files_of(name)}
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.relative_to(_root()).as_posix().encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:_DIGEST_LENGTH]


@cache
def _import_graph() -> grimp.ImportGraph:
    return grimp.build_graph(*_PACKAGES, cache_dir=None)


def _files_of(module: str) -> list[Path]:
    source = _root().joinpath(*module.split("."))
    if source.is_dir():
        return [source / "__init__.py"]
    data_files = [file for file in source.parent.iterdir() if file.is_file() and file.suffix != ".py"]
    return [source.with_suffix(".py"), *data_files]


def _root() -> Path:
    return Path(__file__).resolve().parent.parent
