"""Results of earlier executions, found by what they were made of."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from pipeline.runners.rehearsal.exchange import Made
from pipeline.runners.rehearsal.specification import Task


def fingerprint(task: Task, parameters: Mapping[str, Any], artifacts: Mapping[str, dict[str, Any]]) -> str:
    """Names an execution by what Vertex AI compares: interface, container, parameters and input artifacts.

    Its name and the machine that it gets are left out; an input artifact is known by its own name, so the same
    content from another execution counts as another input.
    """
    executor = json_format.MessageToDict(task.executor)
    executor.get("container", {}).pop("resources", None)
    identity = [json_format.MessageToDict(task.interface), executor, dict(parameters), dict(artifacts)]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


class Cache:
    """A folder with one file for each execution that ended well; none for one that was broken off."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, name: str) -> Made | None:
        """The outputs of the execution with this fingerprint, unless one of their files has gone since."""
        try:
            entry = json.loads((self._folder / f"{name}.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return Made(**entry["made"]) if all(os.path.exists(uri) for uri in entry["present"]) else None

    def keep(self, name: str, made: Made) -> None:
        """Puts an execution's outputs in, once all of them are written."""
        self._folder.mkdir(parents=True, exist_ok=True)
        uris = [artifact["uri"] for artifact in made.artifacts.values()]
        entry = {"made": asdict(made), "present": [uri for uri in uris if os.path.exists(uri)]}
        half = self._folder / f".{name}.{os.getpid()}"
        half.write_text(json.dumps(entry), encoding="utf-8")
        half.replace(self._folder / f"{name}.json")
