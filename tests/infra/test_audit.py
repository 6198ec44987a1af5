"""`make audit`, by the protocol of the database of vulnerabilities, on loopback."""

import json
import re
import socket
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ADVISORY = "GHSA-0000-0000-0000"


class Database(BaseHTTPRequestHandler):
    """OSV's API: who is vulnerable, and what of."""

    vulnerable = frozenset()
    asked = ()

    def do_POST(self):
        queries = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
        type(self).asked = {query["package"]["name"]: query["version"] for query in queries}
        found = {"vulns": [{"id": ADVISORY, "modified": "2026-01-01T00:00:00Z"}]}
        self.answer({"results": [found if query["package"]["name"] in self.vulnerable else {} for query in queries]})

    def do_GET(self):
        affected = [{"package": {"name": name, "ecosystem": "PyPI"}} for name in self.vulnerable]
        self.answer(
            {"id": ADVISORY, "modified": "2026-01-01T00:00:00Z", "summary": "a planted one", "affected": affected}
        )

    def answer(self, value):
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def database():
    handler = type("Handler", (Database,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield handler, f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def audit(url):
    return subprocess.run(
        ["make", "audit", f"OSV={url}"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def test_vulnerable_package_is_reported_and_fails(database):
    handler, url = database
    handler.vulnerable = {"jinja2"}
    done = audit(url)
    assert done.returncode != 0
    assert "jinja2 3.1.6" in done.stdout and f"{ADVISORY}: a planted one" in done.stdout


def test_all_that_is_locked_is_asked_for_and_written_down_with_its_hash(database):
    handler, url = database
    done = audit(url)
    assert done.returncode == 0 and "no known vulnerabilities" in done.stdout + done.stderr
    assert {"tfx", "tensorflow", "gunicorn", "pytest"} <= handler.asked.keys()
    bill = json.loads((ROOT / "sbom.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    parts = {part["name"]: part for part in bill["components"]}
    assert handler.asked.items() <= {name: part["version"] for name, part in parts.items()}.items()
    for name in handler.asked:
        assert any(reference.get("hashes") for reference in parts[name]["externalReferences"]), name


def test_database_that_cannot_be_asked_is_no_clean_bill():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        done = audit(f"http://127.0.0.1:{closed.getsockname()[1]}/")
    assert done.returncode != 0 and "error sending request" in done.stderr


def undated(section):
    """The exceptions without a day and a reason behind them."""
    lines = [line.strip() for line in section.splitlines() if line.strip().startswith('"')]
    return [line for line in lines if not re.fullmatch(r'"[\w-]+",  # \d{4}-\d\d-\d\d: .{20,}', line)]


def test_every_exception_is_dated_and_has_a_reason():
    good = '    "GHSA-1",  # 2026-11-26: reads a format that nothing here reads\n'
    assert undated(f'ignore = [\n{good}    "GHSA-2",\n    "GHSA-3",  # later\n]') == [
        '"GHSA-2",',
        '"GHSA-3",  # later',
    ]
    section = (ROOT / "pyproject.toml").read_text().partition("[tool.uv.audit]")[2].partition("\n[")[0]
    assert "ignore = [" in section and undated(section) == []
