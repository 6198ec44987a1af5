"""What the tests of the cloud's clients share: a Vertex AI on loopback, and time that does not pass."""

import pytest


@pytest.fixture
def fake(monkeypatch):
    import golden_requests  # brings the clients, which take seconds to import

    with golden_requests.vertex_ai(monkeypatch) as served:
        yield served


@pytest.fixture
def waits(monkeypatch):
    """The seconds that would have been waited."""
    taken = []
    monkeypatch.setattr("time.sleep", taken.append)
    return taken
