"""The command line as a user runs it: another process, a tiny network, a few dozen images."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
_TINY = ROOT / "tests" / "tiny.yaml"


@dataclass(frozen=True)
class Finished:
    """A run that has ended: exit code, what it printed, and the metrics as they stood then."""

    code: int
    out: str
    err: str
    output: Path
    metrics: dict[str, Any]

    @property
    def executed(self) -> list[str]:
        return [node["name"] for node in self.metrics["nodes"] if not node["cached"]]


class Cli:
    """Starts `python -m pipeline` on the tiny configuration."""

    def __init__(self, config: Path, sources: list[str]) -> None:
        self._config, self._sources = config, sources

    def command(self, output: Path, *arguments: str) -> list[str]:
        run = [sys.executable, "-m", "pipeline", "run", "--config", str(self._config), "--output", str(output)]
        return [*run, *self._sources, *arguments]

    def run(self, output: Path, *arguments: str) -> Finished:
        return self._finished(self.command(output, *arguments), output)

    def rehearse(self, output: Path, *arguments: str) -> Finished:
        """Compiles the pipeline and runs what it compiles to; Pretrain hires a machine, whose part this one plays."""
        command = [
            sys.executable,
            "-m",
            "pipeline",
            "rehearse",
            "--config",
            str(self._config),
            "--output",
            str(output),
            "--set",
            "vertex.pretraining.machine_type=n1-highmem-8",
        ]
        for name, path in zip(self._sources[::2], self._sources[1::2], strict=True):
            command += ["--set", f"data.{name.removeprefix('--')}={path}"]
        return self._finished([*command, *arguments], output)

    def _finished(self, command: list[str], output: Path) -> Finished:
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        metrics = output / "metrics.json"
        found = json.loads(metrics.read_text()) if metrics.exists() else {}
        return Finished(done.returncode, done.stdout, done.stderr, output, found)


@pytest.fixture(scope="session")
def cli(flat_folder, class_folders) -> Cli:
    return Cli(_TINY, ["--unlabeled", str(flat_folder), "--labeled", str(class_folders)])


@pytest.fixture(scope="session")
def first_run(cli, tmp_path_factory) -> Finished:
    """One whole run on images of one's own, that the other tests look at."""
    finished = cli.run(tmp_path_factory.mktemp("runs") / "first")
    assert finished.code == 0, finished.out + finished.err
    return finished
