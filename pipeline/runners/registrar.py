"""The node that registers the pushed model, with what only the compiler and the runner know."""

import functools
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from kfp import dsl
from tfx.dsl.components.base.base_node import BaseNode

from components.vertex_push.settings import Target
from pipeline.code_version import code_version

_ROOT = Path(__file__).resolve().parents[2]
_UNKNOWN = "unknown"


def vertex_registrar(target: Target) -> Callable[..., BaseNode]:
    """Makes VertexPusher; the runner fills in the name of the job, and the compiler the commit.

    Args:
        target: the model that pushed ones become versions of.
    """
    # It brings the clients of Vertex AI, which take seconds to import.
    from components.vertex_push.component import VertexPusher

    return functools.partial(
        VertexPusher,
        target=target.model_dump_json(),
        run=dsl.PIPELINE_JOB_NAME_PLACEHOLDER,
        commit=git_commit(),
        code_version=code_version("components.vertex_push.component"),
    )


def git_commit(tree: Path = _ROOT) -> str:
    """The commit of the code, with -dirty for files changed since.

    Where the code is in no repository, COMMIT_SHA, by which Cloud Build tells what it was given; else `unknown`.

    Args:
        tree: folder of the code.
    """
    try:
        # No tag matches, so the name is always the whole hash.
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=tree, capture_output=True, text=True, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        return _elsewhere()
    return done.stdout.strip() or _elsewhere()


def _elsewhere() -> str:
    return os.environ.get("COMMIT_SHA") or _UNKNOWN
