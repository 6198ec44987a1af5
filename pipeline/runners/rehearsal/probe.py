"""Runs inside an image: tells which of the names in a JSON object on the standard input it lacks.

It is handed over as text, so an image need not hold this package; hence the standard library only.
"""

import importlib
import importlib.util
import json
import sys
import typing


def _find(name):
    """The class or function of a dotted name."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def _complaint(action, name):
    try:
        action(name)
    except Exception as error:  # noqa: BLE001 (whatever keeps a module from being imported is what is asked for)
        return f"{type(error).__name__}: {error}"
    return None


def _find_module(name):
    if importlib.util.find_spec(name) is None:
        raise ModuleNotFoundError(f"no module named {name!r}")


def _demands(name):
    """Of an executor that TFX made of a function: arguments that only a runner in this process can serve."""
    executor = _find(name)
    function = getattr(executor, "_FUNCTION", None)
    formats = getattr(executor, "_ARG_FORMATS", {})
    types = {key: getattr(hint, "type", None) for key, hint in getattr(function, "__annotations__", {}).items()}
    return {
        "values": [key for key, form in formats.items() if form.name == "ARTIFACT_VALUE"],
        "structures": [key for key, of in types.items() if (typing.get_origin(of) or of) in (dict, list)],
    }


def main():
    """Reads {"modules": [...], "names": [...]}; writes {"lacks": {name: why}, "demands": {name: ...}} last."""
    wanted = json.load(sys.stdin)
    complaints = {name: _complaint(_find_module, name) for name in wanted["modules"]}
    complaints.update({name: _complaint(_find, name) for name in wanted["names"]})
    lacks = {name: why for name, why in complaints.items() if why}
    demands = {name: _demands(name) for name in wanted["names"] if name not in lacks}
    sys.stdout.write("\n" + json.dumps({"lacks": lacks, "demands": demands}) + "\n")


if __name__ == "__main__":
    main()
