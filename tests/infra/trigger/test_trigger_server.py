"""The service under gunicorn, in a process of its own, over HTTP: as Cloud Run starts it and as Eventarc calls it."""

import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from trigger_world import ENVIRONMENT, JOB, binary, finalized, removed, structured, token

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


class Server:
    """gunicorn with the image's settings; its lines, as they come."""

    def __init__(self, world):
        addresses = {
            "TEST_CERTIFICATES": world.addresses.certificates,
            "TEST_STORAGE": world.addresses.storage,
            "TEST_VERTEX": world.addresses.vertex,
        }
        path = os.pathsep.join([str(ROOT), str(HERE), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, **ENVIRONMENT, **addresses, "PYTHONPATH": path}
        environment["PYTHONWARNINGS"] = "ignore"
        command = [sys.executable, "-m", "gunicorn", "--config", "python:infra.trigger.server"]
        self.process = subprocess.Popen(
            [*command, "--bind", "127.0.0.1:0", "served_trigger:create()"],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.lines = []
        self._came = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self._came.put(line)
        self._came.put(None)

    def line(self, pattern):
        """Waits for a line with this; None if the process has said all without one."""
        while (came := self._came.get(timeout=60)) is not None:
            self.lines.append(came)
            if re.search(pattern, came):
                return came
        return None

    def url(self):
        return re.search(r"Listening at: (http://127\.0\.0\.1:\d+)", self.line("Listening at"))[1]

    def end(self):
        """Asks it to end, as Cloud Run does; returns its code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=30)
        self.line("no line has this")
        return code


@pytest.fixture
def server(world):
    started = Server(world)
    yield started
    if started.process.poll() is None:
        started.end()


def test_service_serves_as_it_will_on_cloud_run(world, server):
    url = server.url()
    assert requests.get(f"{url}/health", timeout=30).text == "ok\n"
    authorization = {"Authorization": f"Bearer {token()}"}

    def tell(request, path="/new-data"):
        headers = authorization | request["headers"]
        return requests.post(f"{url}{path}", headers=headers, data=request["data"], timeout=30)

    # Many deliveries of one upload at once, in both modes, among those of other objects.
    others = [binary(finalized(f"photos/{number}.jpg")) for number in range(4)]
    told = [binary(finalized()), structured(finalized())] * 3 + others
    with ThreadPoolExecutor(len(told)) as pool:
        answers = list(pool.map(tell, told))
    assert [answer.status_code for answer in answers] == [200] * 6 + [204] * 4
    assert sorted(answer.json()["status"] for answer in answers[:6]) == ["already started"] * 5 + ["started"]
    [request] = world.vertex.called("CreatePipelineJob")
    assert request.pipeline_job.service_account == JOB["serviceAccount"]

    # Chunks have no length beforehand.
    big = structured(finalized(metadata="x" * 100_000))
    assert tell(big).status_code == 413
    assert tell(big | {"data": iter([big["data"]])}).status_code == 413
    good = structured(finalized())
    assert tell(good | {"data": iter([good["data"][:50], good["data"][50:]])}).json()["status"] == "already started"
    assert tell(binary(finalized(generation="8"))).status_code == 429
    too_long = tell({"headers": {"X-Anything": "x" * 9000}, "data": b""})
    assert too_long.status_code in (400, 431)
    strangers = requests.post(f"{url}/new-data", headers={"Authorization": f"Bearer {removed(token())}"}, timeout=30)
    assert strangers.status_code == 401
    assert half_a_request(url) == b""

    assert server.end() == 0
    logged = [json.loads(line) for line in server.lines]
    assert all({"severity", "message"} <= set(line) for line in logged)
    started = [line for line in logged if line.get("object")]
    assert {line["object"] for line in started} == {"gs://my-project-images/photos/_SUCCESS"}
    assert authorization["Authorization"].split(".")[1] not in "".join(server.lines)


def half_a_request(url):
    """Somebody who announces more than he sends, and leaves: what comes back."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(b"POST /new-data HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n")
        connection.shutdown(socket.SHUT_WR)
        return connection.recv(100)
