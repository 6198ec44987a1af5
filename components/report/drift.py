"""Reads what Drift found, and writes it in words and numbers."""

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from tfx.dsl.io import fileio

from components.report import content, document, pictures


def load_drift(uri: str) -> content.Drift:
    """Reads `drift.json` and the images beside it.

    Args:
      uri: directory of the DriftFindings.
    """
    value = json.loads(_bytes(uri, "drift.json"))
    return drift_of(value, {image["file"]: _bytes(uri, image["file"]) for image in value["unusual"]})


def drift_of(value: Mapping[str, Any], images: Mapping[str, bytes]) -> content.Drift:
    """The findings, from what `drift.json` says and the images beside it, by their file names."""
    kernel = value["embeddings"] or {}
    return content.Drift(
        images=(value["new"]["images"], value["window"]["images"]),
        compared=(value["new"]["compared"], value["window"]["compared"]),
        champion="" if value["champion"] is None else str(value["champion"]),
        false_alarm_rate=value["false_alarm_rate"],
        threshold=value["threshold"],
        p_value=kernel.get("p_value"),
        mmd2=kernel.get("mmd2"),
        expected=kernel.get("expected"),
        not_compared=value["not_compared"] or "",
        statistics=tuple(content.DriftedStatistic(**row) for row in value["statistics"]),
        findings=tuple((found["kind"], found["words"], found["policy"]) for found in value["findings"]),
        unusual=tuple(
            content.UnusualImage(
                key=image["key"],
                times=image["times"],
                share=image["share"],
                picture=images[image["file"]],
            )
            for image in value["unusual"]
        ),
    )


def render_page(drift: content.Drift) -> str:
    """A page about drift alone, without scripts: of a run that it has stopped there is no report."""
    template = resources.files(document.PACKAGE).joinpath("drift_page.html.j2").read_text("utf-8")
    return document.render(template, {"drift": drift, "unusual": pictures.unusual_images(drift)}, {}, filters={})


def drift_metrics(drift: content.Drift) -> dict[str, Any]:
    """The numbers for programs, without the images."""
    return {
        "images": {"new": drift.images[0], "window": drift.images[1]},
        "p_value": drift.p_value,
        "mmd2": drift.mmd2,
        "threshold": drift.threshold,
        "not_compared": drift.not_compared or None,
        "findings": [{"kind": kind, "words": words, "policy": policy} for kind, words, policy in drift.findings],
    }


def _bytes(uri: str, name: str) -> bytes:
    with fileio.open(f"{uri.rstrip('/')}/{name}", "rb") as file:
        return file.read()
