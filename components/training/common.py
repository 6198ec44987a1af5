"""What the run_fns share: their settings, their progress, and the files they leave for the report."""

import copy
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
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.dsl.io import fileio

from components.transform.preprocessing import LABEL_VOCABULARY
from trainer import loop

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


def preprocessing_layer(fn_args: FnArgs) -> Any:
    """The Transform's graph as a layer from raw to transformed features."""
    return tft.TFTransformOutput(fn_args.transform_graph_path).transform_features_layer()


def class_names(fn_args: FnArgs) -> list[str]:
    """Names in the order of `label_index`."""
    output = tft.TFTransformOutput(fn_args.transform_graph_path)
    return [name.decode() for name in output.vocabulary_by_name(LABEL_VOCABULARY)]


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
