"""Imports all of our modules, then compiles, and tells what was asked of Google's credentials meanwhile.

Run as `watched_compile.py RECORD SECRET ARGUMENT ...`: arguments go to `python -m pipeline`; RECORD gets a JSON list
of each opening of a file below the folder SECRET by anyone, and of each look at a variable that names credentials by
code that is not installed: Google's libraries ask at import where credentials would be, and open none.
"""

import importlib
import json
import os
import pkgutil
import sys
from pathlib import Path

VARIABLES = ("GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_CONFIG", "CLOUDSDK_AUTH_ACCESS_TOKEN", "GOOGLE_OAUTH_TOKEN")


def main(record: str, secret: str, *arguments: str) -> None:
    seen: list[str] = []

    def on_event(event: str, details: tuple) -> None:
        if event == "open" and isinstance(details[0], str) and details[0].startswith(secret):
            seen.append(details[0])

    sys.addaudithook(on_event)
    look_up = os._Environ.__getitem__

    def watched(environment, name):
        if name in VARIABLES and not _asked_by_installed_code():
            seen.append(name)
        return look_up(environment, name)

    os._Environ.__getitem__ = watched
    import components
    import pipeline
    import trainer

    for package in (trainer, components, pipeline):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    from pipeline import cli

    cli.main(list(arguments), standalone_mode=False)
    Path(record).write_text(json.dumps(seen))


def _asked_by_installed_code() -> bool:
    """Whether the first frame outside of the look-up itself is of the standard library or of a package."""
    frame = sys._getframe(2)
    while frame.f_globals["__name__"] in ("os", "_collections_abc", "collections.abc"):
        frame = frame.f_back
    return frame.f_code.co_filename.startswith((sys.prefix, sys.base_prefix))


if __name__ == "__main__":
    main(*sys.argv[1:])
