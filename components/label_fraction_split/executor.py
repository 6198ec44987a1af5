"""Two Beam passes over the labelled examples: the first lists keys by class, the second writes the chosen examples.

The choice lies between them, in this process, so that its errors reach the user as they are and not wrapped by a
worker. Only keys are shuffled; image bytes go from file to file. Where a store keeps earlier choices, they stay.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import apache_beam as beam
import tensorflow as tf
from tfx import types
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_executor
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils

from components.label_fraction_split import choices
from components.label_fraction_split.inventory import TRAIN_SPLIT, ClassKeys, ordered_classes
from components.label_fraction_split.selection import fraction_split_name, parse_fractions
from trainer.label_fractions import hash_rank, lies_in, smallest_fractions

TEST_SPLIT = "test"
MANIFEST_FILE = "manifest.json"
_INVENTORY_FILE = "inventory.jsonl"
# The keys that are in a fraction, for the workers: with the smallest that each is in.
_CHOSEN_FILE = "chosen.jsonl"


class Executor(base_beam_executor.BaseBeamExecutor):
    """Writes the manifest of the label fractions and their examples."""

    def Do(  # noqa: N802 (the name is TFX's)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Chooses the fractions of the training labels and copies their examples, and the test split.

        Args:
          input_dict: `examples`, with the splits train and test.
          output_dict: `manifest` and `fraction_examples`.
          exec_properties: `fractions`, `seed` and perhaps `store`, as in LabelFractionSplit.

        Raises:
          ValueError: if the fractions are malformed, a split is missing, a class has no training example, or what the
            store keeps of earlier choices is damaged.
        """
        examples = artifact_utils.get_single_instance(input_dict["examples"])
        manifest = artifact_utils.get_single_instance(output_dict["manifest"])
        fraction_examples = artifact_utils.get_single_instance(output_dict["fraction_examples"])
        fractions = parse_fractions(exec_properties["fractions"])
        seed = int(exec_properties["seed"])
        _require_splits(examples)
        fileio.makedirs(manifest.uri)

        inventory = self._take_inventory(examples, manifest.uri)
        classes = ordered_classes(inventory)
        keys_by_class = {entry.label: entry.keys for entry in inventory if entry.split == TRAIN_SPLIT}
        if store := exec_properties.get("store"):
            smallest = choices.settle(store, keys_by_class, fractions, seed=seed)
        else:
            smallest = smallest_fractions(keys_by_class, fractions, seed=seed)

        fraction_examples.split_names = artifact_utils.encode_split_names(
            [fraction_split_name(fraction) for fraction in fractions] + [TEST_SPLIT]
        )
        examples_utils.set_payload_format(fraction_examples, example_gen_pb2.FORMAT_TF_EXAMPLE)
        splits = {fraction_split_name(fraction): fraction for fraction in fractions}
        self._write_examples(examples, fraction_examples, manifest.uri, splits=splits, smallest=smallest)
        chosen = {
            fraction: {
                label: sorted(
                    (key for key in keys_by_class[label] if lies_in(smallest[key], fraction)),
                    key=partial(hash_rank, seed=seed),
                )
                for label in classes
            }
            for fraction in fractions
        }
        _write_json(
            f"{manifest.uri}/{MANIFEST_FILE}",
            {
                "classes": classes,
                "n_examples": sum(map(len, keys_by_class.values())),
                "seed": seed,
                "fractions": {
                    str(fraction): {"counts": {label: len(keys) for label, keys in choice.items()}, "keys": choice}
                    for fraction, choice in chosen.items()
                },
            },
        )

    def _take_inventory(self, examples: types.Artifact, directory: str) -> list[ClassKeys]:
        path = f"{directory}/{_INVENTORY_FILE}"
        with self._make_beam_pipeline() as pipeline:
            _ = (
                [
                    pipeline
                    | f"Read[{split}]" >> _read(examples, split)
                    | f"Key[{split}]" >> beam.Map(partial(_class_and_key, split))
                    for split in (TRAIN_SPLIT, TEST_SPLIT)
                ]
                | beam.Flatten()
                | beam.GroupByKey()
                | beam.MapTuple(_inventory_line)
                | beam.io.WriteToText(path, num_shards=1, shard_name_template="")
            )
        with fileio.open(path, "r") as file:
            inventory = [ClassKeys(**json.loads(line)) for line in file.read().splitlines()]
        fileio.remove(path)
        return inventory

    def _write_examples(
        self,
        examples: types.Artifact,
        output: types.Artifact,
        directory: str,
        *,
        splits: Mapping[str, float],
        smallest: Mapping[str, float | None],
    ) -> None:
        # Through a file, for a million keys would not fit into a Dataflow job's description.
        path = f"{directory}/{_CHOSEN_FILE}"
        with fileio.open(path, "w") as file:
            file.write("".join(f"{json.dumps(pair)}\n" for pair in smallest.items() if pair[1] is not None))
        with self._make_beam_pipeline() as pipeline:
            chosen = pipeline | "ReadChosen" >> beam.io.ReadFromText(path) | "ParseChosen" >> beam.Map(_pair)
            fractions = (
                pipeline
                | f"Read[{TRAIN_SPLIT}]" >> _read(examples, TRAIN_SPLIT)
                | beam.FlatMap(_into_fractions, splits=splits, smallest=beam.pvalue.AsDict(chosen)).with_outputs(
                    *splits
                )
            )
            for split in splits:
                _ = fractions[split] | f"Write[{split}]" >> _write(output, split)
            test = pipeline | f"Read[{TEST_SPLIT}]" >> _read(examples, TEST_SPLIT)
            _ = test | f"Write[{TEST_SPLIT}]" >> _write(output, TEST_SPLIT)
        fileio.remove(path)


def _require_splits(examples: types.Artifact) -> None:
    found = artifact_utils.decode_split_names(examples.split_names)
    for split in (TRAIN_SPLIT, TEST_SPLIT):
        if split not in found:
            raise ValueError(
                f"Label fractions need the splits {TRAIN_SPLIT!r} and {TEST_SPLIT!r}; received {found}. "
                "Let Transform write both."
            )


def _read(examples: types.Artifact, split: str) -> beam.io.ReadFromTFRecord:
    return beam.io.ReadFromTFRecord(f"{artifact_utils.get_split_uri([examples], split)}/*")


def _write(examples: types.Artifact, split: str) -> beam.io.WriteToTFRecord:
    prefix = f"{artifact_utils.get_split_uri([examples], split)}/data_tfrecord"
    return beam.io.WriteToTFRecord(prefix, file_name_suffix=".gz")


def _class_and_key(split: str, record: bytes) -> tuple[tuple[str, str, int], str]:
    example = tf.train.Example.FromString(record)
    return (split, _text(example, "label"), _label_index(example)), _text(example, "key")


def _inventory_line(group: tuple[str, str, int], keys: Iterator[str]) -> str:
    return json.dumps(dataclasses.asdict(ClassKeys(*group, keys=sorted(keys))))


def _pair(line: str) -> tuple[str, float]:
    key, fraction = json.loads(line)
    return key, fraction


def _into_fractions(
    record: bytes, *, splits: dict[str, float], smallest: dict[str, float]
) -> Iterator[beam.pvalue.TaggedOutput]:
    key = _text(tf.train.Example.FromString(record), "key")
    for split, fraction in splits.items():
        if lies_in(smallest.get(key), fraction):
            yield beam.pvalue.TaggedOutput(split, record)


def _text(example: tf.train.Example, feature: str) -> str:
    return example.features.feature[feature].bytes_list.value[0].decode()


def _label_index(example: tf.train.Example) -> int:
    return example.features.feature["label_index"].int64_list.value[0]


def _write_json(path: str, content: dict[str, Any]) -> None:
    with fileio.open(path, "w") as file:
        file.write(json.dumps(content, indent=1))
