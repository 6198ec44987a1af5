"""`make audit`, by the protocol of the database of vulnerabilities, on loopback."""

import json
import re
import socket
import subprocess
from pathlib import Path

import loopback
import pytest

ROOT = Path(__file__).parents[2]
ADVISORY = "GHSA-0000-0000-0000"


class Database:
    """OSV's API: who is vulnerable, and what of."""

    def __init__(self):
        self.vulnerable, self.asked = frozenset(), {}

    def answer(self, call):
        if call.method == "GET":
            return 200, self.known(
                summary="a planted one",
                affected=[{"package": {"name": name, "ecosystem": "PyPI"}} for name in self.vulnerable],
            )
        queries = json.loads(call.body)["queries"]
        self.asked = {query["package"]["name"]: query["version"] for query in queries}
        found = {"vulns": [self.known()]}
        return 200, {"results": [found if query["package"]["name"] in self.vulnerable else {} for query in queries]}

    def known(self, **more):
        return {"id": ADVISORY, "modified": "2026-01-01T00:00:00Z", **more}


@pytest.fixture
def database():
    database = Database()
    with loopback.serving(database.answer) as url:
        yield database, f"{url}/"


def audit(url):
    return subprocess.run(
        ["make", "audit", f"OSV={url}"], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )


def test_vulnerable_package_is_reported_and_fails(database):
    known, url = database
    known.vulnerable = {"jinja2"}
    done = audit(url)
    assert done.returncode != 0
    assert "jinja2 3.1.6" in done.stdout and f"{ADVISORY}: a planted one" in done.stdout


def test_all_that_is_locked_is_asked_for_and_written_down_with_its_hash(database):
    known, url = database
    done = audit(url)
    assert done.returncode == 0 and "no known vulnerabilities" in done.stdout + done.stderr
    assert {"tfx", "tensorflow", "gunicorn", "pytest"} <= known.asked.keys()
    bill = json.loads((ROOT / "sbom.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    parts = {part["name"]: part for part in bill["components"]}
    assert known.asked.items() <= {name: part["version"] for name, part in parts.items()}.items()
    for name in known.asked:
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
