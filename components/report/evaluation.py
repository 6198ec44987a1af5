"""Reads the accuracy of each class out of a TensorFlow Model Analysis result."""

from collections.abc import Sequence
from typing import Any

from components.report.content import ClassAccuracy

# Names under which an evaluation may report how often the first answer is right; the first found counts.
TOP1_METRICS = ("top1", "top_1", "sparse_categorical_accuracy", "categorical_accuracy", "accuracy")
# The name TFX's Evaluator gives the model under test when a baseline stands beside it.
CANDIDATE_MODEL = "candidate"


def load_class_accuracies(uri: str, classes: Sequence[str]) -> tuple[ClassAccuracy, ...] | None:
    """Finds the slices by one feature, `label` or `label_index`, and the top-1 metric in each.

    Args:
      uri: directory written by the Evaluator.
      classes: class names by index, to name the slices by index.

    Returns:
      A class each, in the order of `classes`; None where the evaluation has no such slice or metric.
    """
    # TFMA takes seconds to import, and a run without an Evaluator needs none of it.
    import tensorflow_model_analysis as tfma

    slices = tfma.load_eval_result(uri).slicing_metrics
    if not slices:
        # Two models without a difference between them: which one is meant has to be said.
        slices = tfma.load_eval_result(uri, model_name=CANDIDATE_MODEL).slicing_metrics
    found = {}
    for key, outputs in slices:
        name = _class_name(key, classes)
        metrics = {} if name is None else _flatten(outputs)
        top1 = next((metrics[metric] for metric in TOP1_METRICS if metric in metrics), None)
        if name is not None and top1 is not None:
            count = metrics.get("example_count")
            found[name] = ClassAccuracy(name=name, accuracy=top1, n=None if count is None else int(count))
    return tuple(found[name] for name in classes if name in found) or None


def _class_name(key: Sequence[Any], classes: Sequence[str]) -> str | None:
    if len(key) != 1:
        return None
    feature, value = key[0]
    if feature == "label":
        return value.decode() if isinstance(value, bytes) else str(value)
    if feature == "label_index" and 0 <= int(value) < len(classes):
        return classes[int(value)]
    return None


def _flatten(outputs: Any) -> dict[str, float]:
    return {
        name: float(value["doubleValue"])
        for sub_keys in outputs.values()
        for metrics in sub_keys.values()
        for name, value in metrics.items()
        if "doubleValue" in value
    }
