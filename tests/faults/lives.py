"""Runs in processes of their own that die at a chosen moment: at the n-th change of anything, or by the clock.

A change is whatever Python can see below a folder: a file that is opened for writing, renamed, linked or removed, a
folder that is made; and each call of the metadata store, which is SQLite in C++. The clock finds the moments within
TensorFlow and between the changes.
"""

import json
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

_CHANGES = {"os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.symlink"}
_WRITING = os.O_WRONLY | os.O_RDWR
# Before the first node and after the last one.
BEFORE, AFTER = "before all nodes", "after all nodes"


@dataclass(frozen=True)
class Moment:
    """Where a run dies: in a node, at so many changes or seconds after it began; neither: at its end."""

    node: str
    change: int | None = None
    after_s: float | None = None


@dataclass
class Stage:
    """What a node did when nobody disturbed it."""

    node: str
    changes: int = 0
    seconds: float = 0.0


class _Life:
    """Counts what a process does, node by node, and ends it at its moment."""

    def __init__(self, moment: Moment | None, below: str) -> None:
        self._moment, self._below = moment, below
        self.stages = [Stage(BEFORE)]
        self._began = time.monotonic()

    def enter(self, node: str) -> None:
        self.stages[-1].seconds = time.monotonic() - self._began
        if self._dies_here and (self._moment.change is None or self.stages[-1].changes < self._moment.change):
            # Cached, or faster than it was: it dies all the same, at the end of the node.
            _die()
        self.stages.append(Stage(node))
        self._began = time.monotonic()
        if self._dies_here and self._moment.after_s is not None:
            timer = threading.Timer(self._moment.after_s, _die)
            timer.daemon = True
            timer.start()

    @property
    def _dies_here(self) -> bool:
        return self._moment is not None and self.stages[-1].node == self._moment.node

    def count(self) -> None:
        self.stages[-1].changes += 1
        if self._dies_here and self.stages[-1].changes == self._moment.change:
            _die()

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit hook: tells of changes before they happen."""
        if event in _CHANGES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING):
            path = arguments[0]
            if isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(self._below):
                self.count()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def live(work: Callable[[], None], moment: Moment | None, below: str, told: Path, log: Path) -> None:
    """Runs `work` in this process, which dies at the moment; leaves exit code and stages in `told` if it does not."""
    from ml_metadata.metadata_store import MetadataStore

    from pipeline.runners import local

    _write_to(log)
    life = _Life(moment, below)
    launch, call = local.AnnouncingRunner._launch, MetadataStore._call

    def launched(self: Any, pipeline: Any, node: Any, *rest: Any) -> Any:
        life.enter(node.node_info.id)
        return launch(self, pipeline, node, *rest)

    def called(self: Any, method: str, *rest: Any) -> Any:
        if not method.startswith("Get"):
            life.count()
        return call(self, method, *rest)

    def published(*arguments: Any, **named: Any) -> None:
        life.enter(AFTER)
        publish(*arguments, **named)

    publish = local.publish
    local.AnnouncingRunner._launch, MetadataStore._call, local.publish = launched, called, published
    sys.addaudithook(life.hear)
    code = 0
    try:
        work()
    except SystemExit as ended:
        code = ended.code or 0
    life.enter("the end")
    stages = [asdict(stage) for stage in life.stages[:-1]]
    told.write_text(json.dumps({"code": code, "stages": stages}))
    # Without the threads of libraries, which may not outlive a fork.
    os._exit(0)


def _write_to(log: Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)


@dataclass(frozen=True)
class Lived:
    """How a life ended: its exit code, None if it was killed, and its stages if it was not."""

    code: int | None
    stages: list[Stage]


class Nursery:
    """Starts lives in processes that have imported everything already, and nothing of this one's threads."""

    def __init__(self, context: Any, folder: Path) -> None:
        self._context, self._folder = context, folder
        self.log = folder / "log.txt"

    def raise_one(
        self, work: Callable[[], None], below: Path, moment: Moment | None = None, *, timeout_s: float = 900
    ) -> Lived:
        """Lets a life run to its end or its moment.

        Args:
            work: a picklable function.
            below: what changes in this folder is counted.
            moment: at which it dies; None: it lives on.
            timeout_s: of all of it.
        """
        told = self._folder / "told.json"
        told.unlink(missing_ok=True)
        process = self._context.Process(target=live, args=(work, moment, str(below), told, self.log))
        process.start()
        process.join(timeout_s)
        if process.exitcode is None:
            process.kill()
            raise AssertionError(f"{moment}: no end after {timeout_s} s; {self.last_words()}")
        if process.exitcode == -signal.SIGKILL and moment is not None:
            return Lived(None, [])
        assert process.exitcode == 0, f"{moment}: exit code {process.exitcode}; {self.last_words()}"
        found = json.loads(told.read_text())
        return Lived(found["code"], [Stage(**stage) for stage in found["stages"]])

    def last_words(self) -> str:
        """The end of what all lives have printed."""
        return self.log.read_text(errors="replace")[-3000:]


@contextmanager
def nursery(folder: Path, preload: list[str]):
    """A nursery whose processes have imported these modules."""
    context = multiprocessing.get_context("forkserver")
    forkserver._forkserver._stop()  # there is one in a process, and other tests' has imported other modules
    context.set_forkserver_preload(preload)
    added = {
        # The server takes this one's path from nowhere else.
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "TF_USE_LEGACY_KERAS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "TF_ENABLE_ONEDNN_OPTS": "1",
        "CUDA_VISIBLE_DEVICES": "-1",
    }
    before = {name: os.environ.get(name) for name in added}
    os.environ.update(added)
    try:
        context.Process(target=_exist).start()
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    yield Nursery(context, folder)
    forkserver._forkserver._stop()


def _exist() -> None:
    os._exit(0)


def moments(stages: list[Stage], rounds: int, chance: random.Random) -> list[Moment]:
    """So many moments in each stage, in the order of the stages; half of them at changes, half by the clock."""
    found = []
    for stage in stages:
        for _ in range(rounds):
            if stage.changes and chance.random() < 0.5:
                found.append(Moment(stage.node, change=chance.randint(1, stage.changes)))
            else:
                found.append(Moment(stage.node, after_s=chance.uniform(0, stage.seconds)))
    return found
