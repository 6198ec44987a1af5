"""Makes the oracles importable; `tests` itself stays off the path, where it would shadow what it mirrors."""

import functools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "oracles"))


@pytest.fixture
def send_sigterm() -> Iterator[Callable[[], None]]:
    """Sends SIGTERM to this process; where no training listens the test fails, and the signal does not end pytest."""

    def unheard(*_: object) -> None:
        pytest.fail("SIGTERM was sent, and no training was listening")

    before = signal.signal(signal.SIGTERM, unheard)
    yield lambda: os.kill(os.getpid(), signal.SIGTERM)
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def eager() -> Iterator[None]:
    """Without graphs and XLA, which take longer to make than a few steps take."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="module")
def compile_views_once() -> Iterator[None]:
    """A view maker is a pure function of its arguments, and seconds of XLA's time."""
    from trainer import views

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(views, "pair_maker", functools.cache(views.pair_maker))
        yield
