"""Embeds the labelled and the test images with the frozen encoder, and probes what h knows of the classes."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft
import tf_keras
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils, path_utils

from components.label_fraction_split.selection import fraction_split_name
from components.training import common
from components.transform.preprocessing import LABEL_VOCABULARY
from trainer import export, probes, resnet, sources
from trainer.config import ProbeConfig


class Executor(base_executor.BaseExecutor):
    """See `LinearEval`."""

    def Do(  # noqa: N802 - TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes `rows.json`, `classes.json` and `embeddings.npz` of the test images."""
        model_uri = artifact_utils.get_single_uri(input_dict["model"])
        encoder, encoder_config = export.load_encoder(path_utils.serving_model_path(model_uri))
        examples = artifact_utils.get_single_instance(input_dict["examples"])
        vocabulary = tft.TFTransformOutput(artifact_utils.get_single_uri(input_dict["transform_graph"]))
        classes = [name.decode() for name in vocabulary.vocabulary_by_name(LABEL_VOCABULARY)]
        seed = exec_properties["seed"]
        # Another seed than pretraining's: the control must not share its initial weights.
        control = resnet.build_encoder(encoder_config, size_px=encoder.input_shape[1], seed=seed + 1)

        frozen = _fingerprint(encoder)
        prober = _Prober(ProbeConfig.model_validate_json(exec_properties["config"]), len(classes), seed)
        splits = {
            fraction: _open_split(examples, fraction_split_name(fraction))
            for fraction in json.loads(exec_properties["fractions"])
        }
        test = _open_split(examples, "test")
        rows = list(prober.rows(encoder, splits, test, arms=("linear", "knn")))
        rows += prober.rows(control, splits, test, arms=("random",))
        if _fingerprint(encoder) != frozen:
            raise RuntimeError("the encoder changed while it was evaluated: it must stay frozen to the bit")

        directory = artifact_utils.get_single_uri(output_dict["probe_results"])
        common.write_json(directory, "rows.json", rows)
        common.write_json(directory, "classes.json", classes)
        shown = probes.embed(encoder, test, keep_images=True)
        common.write_arrays(
            directory, "embeddings.npz", h=shown.h, label_index=shown.label, key=shown.key, image=shown.image
        )


class _Prober:
    """Rows of the result table for one encoder at a time."""

    def __init__(self, config: ProbeConfig, n_classes: int, seed: int) -> None:
        self._config, self._n_classes, self._seed = config, n_classes, seed

    def rows(
        self,
        encoder: tf_keras.Model,
        splits: dict[float, sources.ExampleFiles],
        test: sources.ExampleFiles,
        *,
        arms: tuple[str, ...],
    ) -> Iterator[dict[str, Any]]:
        test_images = probes.embed(encoder, test)
        for fraction, files in splits.items():
            train_images = probes.embed(encoder, files)
            for arm in arms:
                probabilities, settings = self._score(arm, train_images, test_images)
                yield {
                    "arm": arm,
                    "label_fraction": fraction,
                    "n_labels": files.count,
                    **probes.top_accuracies(probabilities, test_images.label),
                    "n_test": test.count,
                    "seed": self._seed,
                    "settings": settings,
                }

    def _score(self, arm: str, train: probes.Embedded, test: probes.Embedded) -> tuple[Any, dict[str, float]]:
        if arm == "knn":
            return probes.knn_probabilities(self._config, train, test, n_classes=self._n_classes)
        return probes.linear_probabilities(self._config, train, test, n_classes=self._n_classes, seed=self._seed)


def _open_split(examples: types.Artifact, split: str) -> sources.ExampleFiles:
    return sources.open_examples([io_utils.all_files_pattern(artifact_utils.get_split_uri([examples], split))])


def _fingerprint(encoder: tf_keras.Model) -> str:
    """Hash of every variable, batch-norm statistics included."""
    digest = hashlib.sha256()
    for variable in encoder.variables:
        digest.update(tf.io.serialize_tensor(variable).numpy())
    return digest.hexdigest()
