"""The service as gunicorn serves it, but for the addresses of Google's services and the credentials: a test's."""

import os

import google.auth
from google.auth.credentials import AnonymousCredentials

from infra.trigger.app import Addresses, Application, create_app


def create() -> Application:
    """The application in a world whose addresses the environment tells."""
    google.auth.default = lambda **_: (AnonymousCredentials(), None)
    return create_app(Addresses(*(os.environ[f"TEST_{name}"] for name in ("CERTIFICATES", "STORAGE", "VERTEX"))))
