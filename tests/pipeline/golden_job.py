"""The compiled PipelineJob that the tests compare with; `make golden` writes it anew, for a person to look at."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.config import load_config
from pipeline.runners import kubeflow, registrar

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "infra" / "vertex.example.yaml"
GOLDEN = Path(__file__).with_name("golden_job.json")
OVERRIDES = ("fractions=[0.1]",)


def compiled_example(directory: str | Path) -> kubeflow.Compiled:
    """Compiles the example that users start from, with one label fraction."""
    return kubeflow.compile_pipeline(load_config(str(EXAMPLE), OVERRIDES), directory)


def normalised(text: str) -> str:
    """A job's text with the hashes of our code and its commit, and nothing else, taken out: edits change them."""
    for version in set(code_versions(json.loads(text))):
        text = text.replace(version, "<code version>")
    return text.replace(f'"constant": "{registrar.git_commit()}"', '"constant": "<commit>"')


def code_versions(job: dict[str, Any]) -> Iterator[str]:
    """The `code_version` of each task that has one, also within the `custom_config` of stock components."""
    for task in job["pipelineSpec"]["components"]["tfx-dag"]["dag"]["tasks"].values():
        parameters = task.get("inputs", {}).get("parameters", {})
        values = {name: value["runtimeValue"]["constant"] for name, value in parameters.items()}
        yield from {values["code_version"]} if "code_version" in values else set()
        own = json.loads(values.get("custom_config", "null")) or {}
        yield from {own["code_version"]} if "code_version" in own else set()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        GOLDEN.write_text(normalised(compiled_example(scratch).job.read_text()))
