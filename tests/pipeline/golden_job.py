"""Both compiled forms that the tests compare with; `make golden` writes them anew, for a person to look at."""

import json
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from tfx import version as tfx

from pipeline.config import load_config
from pipeline.runners import kubeflow, registrar

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "infra" / "vertex.example.yaml"
GOLDEN = Path(__file__).with_name("golden_job.json")
GOLDEN_YAML = Path(__file__).with_name("golden_pipeline.yaml")
OVERRIDES = ("fractions=[0.1]",)


def compiled_example(directory: str | Path) -> kubeflow.Compiled:
    """Compiles the example that users start from, with one label fraction."""
    return kubeflow.compile_pipeline(load_config(str(EXAMPLE), OVERRIDES), directory)


def normalised(text: str) -> str:
    """The text of either form as TFX 1.16 compiles it, with the hashes of our code and its commit taken out.

    Edits change these. What TFX 1.21 compiles differs in the versions that it names.
    """
    # JSON is YAML, too; the parser of JSON takes a tenth of the time.
    content = json.loads(text) if text.startswith("{") else yaml.load(text, yaml.CSafeLoader)
    for version in set(code_versions(content.get("pipelineSpec", content))):
        text = text.replace(version, "<code version>")
    here, there = (tfx.__version__, platform.python_version_tuple()[:2]), ("1.16.0", ("3", "10"))
    for own, golden in zip(versions(*here), versions(*there), strict=True):
        text = text.replace(own, golden)
    return text.replace(f'"constant": "{registrar.git_commit()}"', '"constant": "<commit>"')


def versions(tfx_version: str, python: tuple[str, str]) -> tuple[str, str, str, str]:
    """What a job, and by the second the pipeline's YAML, says about the stack that compiled it."""
    return (
        f'"sdkVersion": "tfx-{tfx_version}"',
        f"sdkVersion: tfx-{tfx_version}\n",
        f'"tfx_version": "{tfx_version.replace(".", "-")}"',
        f'"tfx_py_version": "{"-".join(python)}"',
    )


def code_versions(spec: dict[str, Any]) -> Iterator[str]:
    """The `code_version` of each task that has one, also within the `custom_config` of stock components."""
    for task in spec["components"]["tfx-dag"]["dag"]["tasks"].values():
        parameters = task.get("inputs", {}).get("parameters", {})
        values = {name: value["runtimeValue"]["constant"] for name, value in parameters.items()}
        yield from {values["code_version"]} if "code_version" in values else set()
        own = json.loads(values.get("custom_config", "null")) or {}
        yield from {own["code_version"]} if "code_version" in own else set()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        compiled = compiled_example(scratch)
        GOLDEN.write_text(normalised(compiled.job.read_text()))
        GOLDEN_YAML.write_text(normalised(compiled.yaml.read_text()))
