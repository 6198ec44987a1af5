"""What the tests of the cloud's clients share: a Vertex AI on loopback, and time that does not pass."""

import functools
import time

import pytest


@pytest.fixture
def fake(monkeypatch):
    import golden_requests  # brings the clients, which take seconds to import

    with golden_requests.vertex_ai(monkeypatch) as served:
        yield served


@pytest.fixture
def waits(monkeypatch):
    """The seconds that would have been waited; they pass on the clock by which clients know when to give up."""
    taken = []
    clock = time.monotonic
    monkeypatch.setattr("time.sleep", taken.append)
    monkeypatch.setattr("time.monotonic", lambda: clock() + sum(taken))
    return taken


@pytest.fixture
def register(tmp_path):
    """Registers a model of this content, as a node would whose run has these artifacts; see `pushed_runs`."""
    import pushed_runs

    return functools.partial(pushed_runs.register_run, tmp_path)
