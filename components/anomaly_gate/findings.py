"""What is wrong with the examples, in words, from the anomalies that TensorFlow Data Validation found."""

import re
from collections.abc import Iterator, Mapping, Sequence

from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2

from trainer.enumeration import first_few

# The values are in TFDV's message and nowhere else: "… missing from the schema: zebra (~12%), yak (<1%). "
_UNEXPECTED_VALUE = re.compile(r"(?:^.*? schema: |, )(.*?) \(([~<]?\d+%)\)(?=, |\. ?$)")
_SHOWN_VALUES = 10
_LABEL = "label"


def find_faults(
    anomalies: Mapping[str, anomalies_pb2.Anomalies],
    schema: schema_pb2.Schema,
    *,
    required_features: Sequence[str],
) -> list[str]:
    """Lists what makes examples unfit, a sentence or two each.

    Values that the schema doesn't know count in the label only. In other features they are no fault: TFDV takes any
    feature with few different values for a category, which in a small set goes for keys, addresses and checksums.

    Args:
      anomalies: of each split, as ExampleValidator writes them.
      schema: that they were validated against.
      required_features: names of the features that the pipeline can't do without.

    Returns:
      The faults; none if the examples are fit.
    """
    known = {feature.name for feature in schema.feature}
    absent = [name for name in required_features if name not in known]
    faults = [_absent_feature(name) for name in absent]
    for split, found in anomalies.items():
        if found.data_missing:
            faults.append(f"The {split!r} split has no examples. Add some, or leave the split out.")
        if found.HasField("dataset_anomaly_info"):
            faults.append(f"The {split!r} split as a whole: {found.dataset_anomaly_info.description.strip()}")
        for feature, info in sorted(found.anomaly_info.items()):
            if feature not in absent:
                faults.extend(_feature_faults(split, feature, info))
    return faults


def _absent_feature(name: str) -> str:
    if name == _LABEL:
        return (
            "The label column is missing: no training example has the feature 'label'. Name the folders after the "
            "classes, give each image a .cls member, or add a manifest with a label column."
        )
    return f"The feature {name!r} is missing: no training example has it. Ingest the images again."


def _feature_faults(split: str, feature: str, info: anomalies_pb2.AnomalyInfo) -> Iterator[str]:
    others = []
    for reason in info.reason:
        if reason.type == anomalies_pb2.AnomalyInfo.ENUM_TYPE_UNEXPECTED_STRING_VALUES:
            if feature == _LABEL:
                yield _unexpected_classes(split, reason.description)
        elif reason.type == anomalies_pb2.AnomalyInfo.SCHEMA_MISSING_COLUMN:
            yield f"No example of the {split!r} split has the feature {feature!r}. Give each of its images one."
        else:
            others.append(reason.description.strip() or reason.short_description)
    if others:
        yield f"Feature {feature!r} of the {split!r} split: {' '.join(others)} Correct or remove these images."


def _unexpected_classes(split: str, description: str) -> str:
    classes = _UNEXPECTED_VALUE.findall(description)
    if not classes:
        return f"The labels of the {split!r} split: {description.strip()}"
    named = [f"'{_unescaped(name)}' ({share} of its examples)" for name, share in classes]
    subject = "a class" if len(classes) == 1 else f"{len(classes)} classes"
    return (
        f"The {split!r} split has {subject} that the training split lacks: {first_few(named, _SHOWN_VALUES)}. "
        f"Add training images of each, correct the spelling, or take them out of the {split!r} split."
    )


def _unescaped(value: str) -> str:
    """Undoes the C escapes of quotes and backslashes in TFDV's messages."""
    return re.sub(r"\\(['\"\\])", r"\1", value)
