"""What the run_fns share: their settings, their progress, and the files they leave for the report."""

import copy
import hashlib
import io
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform.saved.saved_transform_io_v2 import SavedModelLoader
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.dsl.io import fileio

from components.transform.preprocessing import LABEL_VOCABULARY
from trainer import checkpoints, images, loop, sources
from trainer.config import AugmentConfig, DistillConfig, PretrainConfig

_PROGRESS_LOGGER = logging.getLogger("simclr.progress")


def progress_reporter(stage: str) -> loop.Report:
    """Sends progress to the `simclr.progress` logger; a runner draws it as a bar, a cloud log keeps the lines."""

    def report(progress: loop.Progress) -> None:
        _PROGRESS_LOGGER.info(
            "%s: step %d of %d, loss %.3f, %.0f images/s",
            stage,
            progress.step,
            progress.total_steps,
            progress.metrics["loss"],
            progress.images_per_s,
            extra={"stage": stage, "progress": progress},
        )

    return report


class Preprocessing(tf.Module):
    """The Transform's graph as a function from raw to transformed features, for a SavedModel to hold.

    TFT's own layer for it is a Keras model, whose functions a SavedModel traces and converts one by one.
    """

    def __init__(self, transform_graph_path: str) -> None:
        super().__init__()
        output = tft.TFTransformOutput(transform_graph_path)
        self._loader = SavedModelLoader(output.transform_savedmodel_dir)
        self._loaded = dict(vars(self._loader))  # tables and assets are saved with what they are an attribute of

    def __call__(self, features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Raw features, all or some, → what can be made of them."""
        return self._loader.apply_transform_model(features)


@contextmanager
def chiefs_outputs(fn_args: FnArgs, strategy: tf.distribute.Strategy) -> Iterator[FnArgs]:
    """Where this process writes what the training leaves: the chief into the outputs, others into a folder of no use.

    All do the same: to read a variable may take all workers. In the end TFX wants the model's folder to be there.
    """
    if strategy.extended.should_checkpoint:
        yield fn_args
        return
    with tempfile.TemporaryDirectory() as unused:
        elsewhere = copy.copy(fn_args)
        elsewhere.serving_model_dir = os.path.join(unused, "model")
        elsewhere.model_run_dir = os.path.join(unused, "run")
        fileio.makedirs(elsewhere.model_run_dir)
        yield elsewhere
    fileio.makedirs(fn_args.serving_model_dir)


def checkpoint_dir(
    fn_args: FnArgs, config: PretrainConfig | DistillConfig, *, files: sources.ExampleFiles, origin: str | None = None
) -> str:
    """One directory for one training: other images, code or settings never find this one's checkpoints.

    The machines are none of that, nor is where the images lie: what was begun on some machines goes on on others, and
    a later run of the pipeline, which has made the same examples anew, goes on where one before it broke off.

    Args:
        fn_args: with `seed`, `code_version` and `checkpoint_root` in their `custom_config`.
        config: of the training.
        files: what is trained on.
        origin: digest of the networks that the training begins with or learns from; None: there are none.
    """
    settings = fn_args.custom_config
    deciding = checkpoints.fixed(config.model_dump(mode="json")), settings["seed"], settings["code_version"]
    identity = json.dumps([sources.fingerprint(files), *deciding, *filter(None, [origin])], sort_keys=True)
    name = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return os.path.join(settings["checkpoint_root"], name)


def class_names(fn_args: FnArgs) -> list[str]:
    """Names in the order of `label_index`."""
    output = tft.TFTransformOutput(fn_args.transform_graph_path)
    return [name.decode() for name in output.vocabulary_by_name(LABEL_VOCABULARY)]


def network_size_px(fn_args: FnArgs, augment: AugmentConfig) -> int:
    """Side of the network's input: the configured one, or the short side that the Transform's graph gives images.

    Pretraining, fine-tuning and baseline are given one graph, so that they agree on one size before any of them runs.
    """
    if augment.crop.size_px:
        return augment.crop.size_px
    pixel = tf.io.encode_png(tf.zeros([1, 1, 3], tf.uint8))
    (stored,) = Preprocessing(fn_args.transform_graph_path)({"image_bytes": pixel[None, None]})["image"]
    return int(images.png_size(stored)[0])


def write_json(directory: str, name: str, value: Any) -> None:
    """Writes a JSON file, the directory too if need be."""
    fileio.makedirs(directory)
    with fileio.open(os.path.join(directory, name), "w") as file:
        file.write(json.dumps(value, ensure_ascii=False, indent=1))


def write_arrays(directory: str, name: str, **arrays: Any) -> None:
    """Writes arrays as a compressed .npz; strings as fixed-width unicode, so that no pickle is involved."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{key: np.asarray(value) for key, value in arrays.items()})
    fileio.makedirs(directory)
    with fileio.open(os.path.join(directory, name), "wb") as file:
        file.write(buffer.getvalue())
