"""Runs Drift: spans and the champion in, `drift.json` and the most unusual images out."""

import dataclasses
import json
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils

from components.drift import appearance, findings, samples, sides, two_sample, unusual
from components.drift.samples import Sample
from components.drift.settings import DRIFT_FILE, DriftConfig
from components.image_example_gen.executor import excluded_files
from components.push import pointer
from components.push.scoring import CLASSES_FILE
from components.span_ingest.settings import RetrainConfig

_SHOWN_SIDE_PX = 96
# Two images say nothing of a distribution; a p-value from fewer than this could not be small.
_LEAST_IMAGES = 10
_LOGGER = logging.getLogger("simclr.progress")


class Executor(base_executor.BaseExecutor):
    """See `Drift`."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes what was found, warns of it, or stops the run, as configured.

        Raises:
          DriftedError: something was found that is to stop the run.
        """
        config = DriftConfig.model_validate_json(exec_properties["config"])
        seed = int(exec_properties["seed"])
        uri = artifact_utils.get_single_uri(output_dict["drift"])
        fileio.makedirs(uri)
        retrain = RetrainConfig.model_validate_json(exec_properties["retrain"])
        newest = artifact_utils.get_single_instance(input_dict["unlabeled"]).get_int_custom_property("span")
        test_files = excluded_files(input_dict["labeled"])
        new, window = sides.read(retrain, test_files, newest=newest, size=config.sample, seed=seed)
        champion = _Champion.of(exec_properties["pushed"])
        result = _compare(config, new, window, champion, seed=seed)
        result["new_classes"] = {
            name: count
            for name, count in sorted(samples.labels(_splits(input_dict["labeled"])).items())
            if champion.classes and name not in champion.classes
        }
        found = findings.find(
            config,
            result["embeddings"],
            result["statistics"],
            result["new_classes"],
            not_compared=result["not_compared"],
        )
        told, pictures = _write(uri, result, found, new, config)
        for finding in found:
            if finding.policy == "warn":
                _LOGGER.warning("drift: %s", finding.words)
        if message := findings.stops(found):
            raise findings.DriftedError(message, told, pictures)


@dataclasses.dataclass(frozen=True)
class _Champion:
    """The pushed model that embeds, or why there is none."""

    version: int | None
    embedder: Any
    classes: list[str]
    absent: str | None
    model: Any = None  # kept alive: signatures hold its variables by weak reference only

    @classmethod
    def of(cls, pushed: str) -> "_Champion":
        version = pointer.champion(pushed)
        if version is None:
            return cls(None, None, [], "there is no champion yet")
        path = pointer.path_of(pushed, version)
        try:
            model = tf.saved_model.load(path)
            with fileio.open(f"{path}/{CLASSES_FILE}", "r") as file:
                classes = json.load(file)
            return cls(version, model.signatures["embed"], classes, None, model)
        except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
            return cls(version, None, [], f"the champion, version {version}, cannot embed: {error}")


def _compare(config: DriftConfig, new: Sample, window: Sample, champion: _Champion, *, seed: int) -> dict[str, Any]:
    result: dict[str, Any] = {
        "champion": champion.version,
        "false_alarm_rate": config.false_alarm_rate,
        "new": {"images": new.n_images, "compared": len(new.keys)},
        "window": {"images": window.n_images, "compared": len(window.keys)},
        "embeddings": None,
        "statistics": [],
        "unusual": [],
        "not_compared": champion.absent,
    }
    if too_few := _too_few(new, window):
        result["not_compared"] = too_few
        return result
    seen = [appearance.statistics(sample.images) for sample in (new, window)]
    result["statistics"] = two_sample.shifts(*seen)
    vectors = unusual.standardised(*(np.stack(list(side.values()), axis=1) for side in seen))
    if champion.embedder is not None:
        vectors = tuple(samples.embed(champion.embedder, sample.images).numpy() for sample in (new, window))
        result["embeddings"] = two_sample.kernel_test(*vectors, permutations=config.permutations, seed=seed)
    result["unusual"] = unusual.most_unusual(*vectors, count=config.shown)
    return result


def _too_few(new: Sample, window: Sample) -> str | None:
    """Why there is nothing to compare, or None."""
    if not window.n_images:
        return "nothing has been trained on before that is still there"
    for side, sample in (("of the new images", new), ("of the window before them", window)):
        if len(sample.keys) < _LEAST_IMAGES:
            return f"{side} there are {sample.n_images}; fewer than {_LEAST_IMAGES} say nothing"
    return None


def _write(
    uri: str, result: Mapping[str, Any], found: list[findings.Finding], new: Sample, config: DriftConfig
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Writes `drift.json` and the images that it names; returns both."""
    shown, pictures = [], {}
    for place, image in enumerate(result["unusual"]):
        name = f"unusual-{place:03}.png"
        pictures[name] = appearance.thumbnail(new.images[image.index], side_px=_SHOWN_SIDE_PX)
        with fileio.open(f"{uri}/{name}", "wb") as file:
            file.write(pictures[name])
        shown.append({"key": new.keys[image.index], "file": name, "times": image.times, "share": image.share})
    kernel = result["embeddings"]
    content = {
        **result,
        "threshold": config.false_alarm_rate / 2,
        "embeddings": kernel and dataclasses.asdict(kernel),
        "statistics": [dataclasses.asdict(shift) for shift in result["statistics"]],
        "unusual": shown,
        "findings": [dataclasses.asdict(finding) for finding in found],
    }
    with fileio.open(f"{uri}/{DRIFT_FILE}", "wb") as file:
        file.write(json.dumps(content, ensure_ascii=False, indent=1).encode())
    return content, pictures


def _splits(artifacts: list[types.Artifact]) -> list[str]:
    """All but the test images, which are nobody's training data."""
    artifact = artifact_utils.get_single_instance(artifacts)
    names = [name for name in artifact_utils.decode_split_names(artifact.split_names) if name != "test"]
    return [artifact_utils.get_split_uri([artifact], name) for name in names]
