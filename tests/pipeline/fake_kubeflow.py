"""An open-source Kubeflow Pipelines on loopback, as far as a submission asks it: version 2 of its API, one user."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import loopback


class FakeKubeflow:
    """Takes every run.

    Attributes:
        url: of the API.
        refusal: the words with which the next runs are refused; None: they are taken.
        calls: all that was asked.
    """

    def __init__(self) -> None:
        self.url = ""
        self.refusal: str | None = None
        self.calls: list[loopback.Call] = []

    def answer(self, call: loopback.Call) -> loopback.Answer:
        self.calls.append(call)
        if call.method == "GET":
            return 200, {"multi_user": False} if call.path.endswith("healthz") else {"experiments": []}
        if call.path.endswith("runs") and self.refusal:
            return 400, {"message": self.refusal}
        return 200, {**json.loads(call.body), "experiment_id": "e1", "run_id": "r1"}


@contextmanager
def serving(monkeypatch: Any) -> Iterator[FakeKubeflow]:
    """The fake on a port of its own, past any proxy."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    fake = FakeKubeflow()
    with loopback.serving(fake.answer) as fake.url:
        yield fake
