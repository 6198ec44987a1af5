"""Tells when files appear or change below a folder."""

import os
import threading
from collections.abc import Callable, Collection

from watchfiles import Change, watch

from components.image_example_gen import names

# How often it is looked whether the folder is still the same one.
_LOOK_MS = 500
_STEP_MS = 50


class Files(threading.Thread):
    """Watches in a thread of its own. A folder that goes and comes back, as a drive does, is watched again."""

    def __init__(
        self, root: str, *, leave_out: Collection[str], came: Callable[[], None], broke: Callable[[], None]
    ) -> None:
        """Begins nothing yet.

        Args:
            root: folder, with all that is below it.
            leave_out: folders and files whose changes are of no interest, such as what the runs write themselves.
            came: called after files have appeared or changed.
            broke: called if nothing can be watched any more; `problem` says why.
        """
        super().__init__(name="files", daemon=True)
        self._root = os.path.abspath(root)
        self._leave_out = [os.path.abspath(path) for path in leave_out]
        self._came, self._broke = came, broke
        self._ends, self._ready = threading.Event(), threading.Event()
        self.problem: Exception | None = None
        self._gone = False

    def start_watching(self) -> None:
        """Starts the thread; when this returns, no file that comes is missed."""
        self.start()
        self._ready.wait()

    def end(self) -> None:
        """Ends the thread."""
        self._ends.set()
        self.join()

    def run(self) -> None:
        """Of the thread."""
        try:
            while not self._ends.is_set():
                identity = self._identity()
                if identity is None:
                    self._ready.set()
                    self._ends.wait(_LOOK_MS / 1000)
                    continue
                self._watch(identity)
        except Exception as error:  # noqa: BLE001 - what ends a thread has to be told in the other one
            self.problem = error
            self._broke()
        finally:
            self._ready.set()

    def _watch(self, identity: tuple[int, int]) -> None:
        """Until it ends, or the folder is another."""
        self._gone, is_new = False, self._ready.is_set()
        changes_of_files = watch(
            self._root,
            watch_filter=self._is_of_interest,
            stop_event=self._ends,
            step=_STEP_MS,
            rust_timeout=_LOOK_MS,
            yield_on_timeout=True,
            raise_interrupt=False,
            ignore_permission_denied=True,
        )
        try:
            for changes in changes_of_files:
                # The first time tells that it is watched from now on; what was in a new folder nobody has seen come.
                if changes or is_new:
                    self._came()
                is_new = False
                self._ready.set()
                if self._gone or self._identity() != identity:
                    return
        except FileNotFoundError:
            # Gone between the look and the watch.
            return

    def _is_of_interest(self, change: Change, path: str) -> bool:
        if change is Change.deleted:
            # One that is made anew at once may get the number of the old one.
            self._gone = self._gone or path == self._root
            return False
        if any(path == left or path.startswith(f"{left}{os.sep}") for left in self._leave_out):
            return False
        return not names.is_hidden(os.path.relpath(path, self._root))

    def _identity(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self._root)
        except OSError:
            return None
        return status.st_dev, status.st_ino
