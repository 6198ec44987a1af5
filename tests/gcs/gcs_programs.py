"""What runs in a process whose gs:// is the emulator: argv is a gs:// folder and the names of functions to call."""

import json
import os
import sys
from typing import Any

import programs_of_images
import programs_of_models
import programs_of_runs

# How long Google's client for Python waits for an answer, if not a minute.
PATIENCE = "PYTHON_PATIENCE_S"
_PROGRAMS = {**vars(programs_of_images), **vars(programs_of_models), **vars(programs_of_runs)}


def _wait_no_longer_than(seconds: float) -> None:
    from requests.adapters import HTTPAdapter

    send = HTTPAdapter.send

    def sent(self: HTTPAdapter, *arguments: Any, **named: Any) -> Any:
        return send(self, *arguments, **{**named, "timeout": seconds})

    HTTPAdapter.send = sent


if __name__ == "__main__":
    if PATIENCE in os.environ:
        _wait_no_longer_than(float(os.environ[PATIENCE]))
    sys.stdout.write(json.dumps({name: _PROGRAMS[name](sys.argv[1]) for name in sys.argv[2:]}) + "\n")
