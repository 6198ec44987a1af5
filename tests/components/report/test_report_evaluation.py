import pandas as pd
import tensorflow_model_analysis as tfma
from google.protobuf import text_format
from tensorflow_model_analysis.proto import config_pb2

from components.report.content import ClassAccuracy
from components.report.evaluation import load_class_accuracies


def _evaluate(directory, slicing: str) -> str:
    config = text_format.Parse(
        """
        model_specs { label_key: "label_index" prediction_key: "prediction" }
        metrics_specs {
          metrics { class_name: "ExampleCount" }
          metrics { class_name: "SparseCategoricalAccuracy" }
        }
        slicing_specs {}
        """
        + slicing,
        config_pb2.EvalConfig(),
    )
    frame = pd.DataFrame(
        {
            "label": ["cat", "cat", "dog", "dog", "dog"],
            "label_index": [0, 0, 1, 1, 1],
            "prediction": [[0.9, 0.1], [0.2, 0.8], [0.1, 0.9], [0.3, 0.7], [0.4, 0.6]],
        }
    )
    tfma.analyze_raw_data(frame, config, output_path=str(directory))
    return str(directory)


def test_class_slices_give_accuracy_and_count(tmp_path):
    uri = _evaluate(tmp_path, 'slicing_specs { feature_keys: "label" }')

    assert load_class_accuracies(uri, ("cat", "dog")) == (
        ClassAccuracy(name="cat", accuracy=0.5, n=2),
        ClassAccuracy(name="dog", accuracy=1.0, n=3),
    )


def test_slices_by_index_are_named_by_class(tmp_path):
    uri = _evaluate(tmp_path, 'slicing_specs { feature_keys: "label_index" }')

    assert [item.name for item in load_class_accuracies(uri, ("cat", "dog"))] == ["cat", "dog"]


def test_evaluation_without_class_slices_says_nothing(tmp_path):
    assert load_class_accuracies(_evaluate(tmp_path, ""), ("cat", "dog")) is None
