"""AnomalyGate: the TFX shell."""

import json

from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.components.example_validator.executor import DEFAULT_FILE_NAME
from tfx.dsl.component.experimental.annotations import InputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import ExampleAnomalies, Schema
from tfx.utils import io_utils

from components.anomaly_gate.findings import find_faults


@component
def AnomalyGate(  # noqa: N802 (TFX names the node after the function)
    anomalies: InputArtifact[ExampleAnomalies],
    schema: InputArtifact[Schema],
    required_features: Parameter[str],
    source: Parameter[str],
    code_version: Parameter[str] = "",
) -> None:
    """Stops the run if the examples of a source are not fit to train on.

    It has no output: nodes that need fit examples come after it by `add_upstream_node`.

    Args:
      anomalies: from the stock ExampleValidator.
      schema: that the examples were validated against.
      required_features: JSON list of feature names, such as '["image_bytes", "label"]'.
      source: what the user calls these examples, such as "LABELED".
      code_version: part of the cache key, nothing else.

    Raises:
      ValueError: if anything is wrong; it says what, in which split, and what to do.
    """
    by_split = {
        split: _read_anomalies(f"{artifact_utils.get_split_uri([anomalies], split)}/{DEFAULT_FILE_NAME}")
        for split in artifact_utils.decode_split_names(anomalies.split_names)
    }
    faults = find_faults(
        by_split,
        io_utils.SchemaReader().read(io_utils.get_only_uri_in_dir(schema.uri)),
        required_features=json.loads(required_features),
    )
    if faults:
        raise ValueError("\n".join([f"The images of {source} cannot be trained on:", *faults]))


def _read_anomalies(path: str) -> anomalies_pb2.Anomalies:
    with fileio.open(path, "rb") as file:
        return anomalies_pb2.Anomalies.FromString(file.read())
