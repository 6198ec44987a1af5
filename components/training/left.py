"""What the trainings of classifiers leave: curve, row and predictions for the report, and the served model."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.dsl.io import fileio

from components.training import common
from trainer import export, probes, sources
from trainer.classifiers import Classifier
from trainer.config import EncoderConfig, HeadConfig


def leave(
    fn_args: FnArgs,
    classifier: Classifier,
    *,
    test: sources.ExampleFiles,
    classes: Sequence[str],
    row: Mapping[str, Any],
    encoder: EncoderConfig,
    head: HeadConfig | None = None,
    head_layer: int = 0,
) -> None:
    """Scores a classifier on the test images, and exports it behind its preprocessing, with its weights beside it.

    Distillation is taught by these weights, and the trainer's commands open them.

    Args:
        fn_args: of the Trainer.
        classifier: what was trained.
        test: images that only score.
        classes: names in the order of the logits.
        row: what the report is told beside the scores: `arm`, `label_fraction`, `n_labels`, `seed`, `settings`.
        encoder: its encoder's settings.
        head: settings of the projection head whose first layers it keeps, if it keeps any.
        head_layer: how many.
    """
    # On Vertex AI nobody has made it, as the local runner does.
    fileio.makedirs(fn_args.model_run_dir)
    classifier.history.write(os.path.join(fn_args.model_run_dir, "history.csv"))
    scored = probes.classify(classifier.model, test)
    accuracies = probes.top_accuracies(scored.probabilities, scored.label)
    common.write_json(fn_args.model_run_dir, "rows.json", [{**row, **accuracies, "n_test": len(scored.label)}])
    common.write_json(fn_args.model_run_dir, "classes.json", list(classes))
    common.write_arrays(
        fn_args.model_run_dir,
        "predictions.npz",
        probabilities=scored.probabilities.astype(np.float32),
        label_index=scored.label,
        key=scored.key,
    )
    preprocessing = common.Preprocessing(fn_args.transform_graph_path)
    served = export.ServedClassifier(classifier.model, preprocessing, classes=classes)
    export.save_served(served, fn_args.serving_model_dir)
    export.save_classes(classes, fn_args.serving_model_dir)
    export.save_classifier(
        classifier.model,
        fn_args.serving_model_dir,
        encoder=encoder,
        classes=classes,
        head=head,
        head_layer=head_layer,
    )
