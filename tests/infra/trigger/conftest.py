"""The trigger's service and its world."""

import os

import fake_storage
import google.auth
import pytest
from google.auth.credentials import AnonymousCredentials
from trigger_world import ENVIRONMENT, binary, serving, token
from werkzeug.test import Client

from infra.trigger.app import create_app


@pytest.fixture
def world(monkeypatch):
    with fake_storage.serving(monkeypatch) as storage, serving(storage, os.environ["STORAGE_EMULATOR_HOST"]) as world:
        yield world


@pytest.fixture
def environment(monkeypatch):
    """The variables of a service, to be changed before `service` is made."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(google.auth, "default", lambda **_: (AnonymousCredentials(), None))
    return monkeypatch


@pytest.fixture
def service(world, environment):
    """A caller of the WSGI application as `service(path, **request)`; the usual token, unless another is given."""
    client = Client(create_app(world.addresses))

    usual = f"Bearer {token()}"

    def call(path="/new-data", *, authorization=usual, method="POST", headers=None, **request):
        sent = {"Authorization": authorization} if authorization else {}
        return client.open(path, method=method, headers=sent | (headers or {}), **request)

    return call


@pytest.fixture
def tell(service):
    """Tells the service of an object in binary mode."""
    return lambda data, **attributes: service(**binary(data, **attributes))


@pytest.fixture
def waits(monkeypatch):
    """The seconds that would have been waited."""
    taken = []
    monkeypatch.setattr("time.sleep", taken.append)
    return taken
