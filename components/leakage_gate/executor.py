"""One Beam pass over all examples: the test images' hashes go to every worker, the training images' stay."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import apache_beam as beam
from tfx import types
from tfx.dsl.components.base import base_beam_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils

from components.image_example_gen import splits
from components.image_example_gen.examples import Example
from trainer.enumeration import first_few

LEAKAGE_FILE = "leakage.json"
_LINES_FILE = "lines.jsonl"
_TRAIN, _TEST = "train", "test"


class Executor(base_beam_executor.BaseBeamExecutor):
    """See `LeakageGate`."""

    def Do(  # noqa: N802 (the name is TFX's)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes `leakage.json`: `test` images, `training` images by source, and `leaks`, of which there are none.

        Raises:
          ValueError: a training image is a test image, or a labelled image is on the other side than in an earlier
            run; it names them.
        """
        labeled = artifact_utils.get_single_instance(input_dict["labeled"])
        unlabeled = artifact_utils.get_single_instance(input_dict["unlabeled"])
        uri = artifact_utils.get_single_uri(output_dict["leakage"])
        training = {
            "labeled": [artifact_utils.get_split_uri([labeled], _TRAIN)],
            "unlabeled": [
                artifact_utils.get_split_uri([unlabeled], split)
                for split in artifact_utils.decode_split_names(unlabeled.split_names)
            ],
        }
        fileio.makedirs(uri)
        test_uri = artifact_utils.get_split_uri([labeled], _TEST)
        lines = self._compare(training, test_uri, f"{uri}/{_LINES_FILE}")
        counted = {line["source"]: line["images"] for line in lines if "images" in line}
        leaks = sorted((line for line in lines if "test_key" in line), key=lambda leak: (leak["source"], leak["key"]))
        # Beam writes lines in any order; what tells of them has one.
        counts = {source: counted[source] for source in training}
        found = {"test": counted[_TEST], "training": counts, "leaks": leaks}
        with fileio.open(f"{uri}/{LEAKAGE_FILE}", "w") as file:
            file.write(json.dumps(found, ensure_ascii=False, indent=1))
        if leaks:
            raise ValueError(_message(leaks))
        if store := exec_properties.get("store"):
            earlier = splits.read(store)
            read = self._labeled({_TRAIN: training["labeled"][0], _TEST: test_uri}, f"{uri}/{_LINES_FILE}")
            moved = [line for line in read if earlier.get(line["content"], line["split"]) != line["split"]]
            if moved:
                raise ValueError(_moved_message(moved, store))

    def _compare(self, training: Mapping[str, list[str]], test_uri: str, path: str) -> list[dict[str, Any]]:
        with self._make_beam_pipeline() as pipeline:
            test = pipeline | "Read[test]" >> _read(test_uri) | "Hash[test]" >> beam.Map(_content_and_key)
            found = [test | "Count[test]" >> beam.combiners.Count.Globally() | beam.Map(_count_line, _TEST)]
            for source, uris in training.items():
                images = [
                    pipeline | f"Read[{source}/{number}]" >> _read(split_uri) for number, split_uri in enumerate(uris)
                ] | f"Flatten[{source}]" >> beam.Flatten()
                hashes = images | f"Hash[{source}]" >> beam.Map(_content_and_key)
                counts = hashes | f"Count[{source}]" >> beam.combiners.Count.Globally()
                found.append(counts | f"CountLine[{source}]" >> beam.Map(_count_line, source))
                known = beam.pvalue.AsDict(test)
                found.append(hashes | f"Compare[{source}]" >> beam.FlatMap(_leak_lines, source=source, test=known))
            _ = found | beam.Flatten() | _write_lines(path)
        return _take_lines(path)

    def _labeled(self, split_uris: Mapping[str, str], path: str) -> list[dict[str, str]]:
        """The labelled images by what ingestion has recorded of the files that were read."""
        with self._make_beam_pipeline() as pipeline:
            _ = (
                [
                    pipeline | f"Read[{split}]" >> _read(split_uri) | f"Line[{split}]" >> beam.Map(_split_line, split)
                    for split, split_uri in split_uris.items()
                ]
                | beam.Flatten()
                | _write_lines(path)
            )
        return sorted(_take_lines(path), key=lambda line: line["key"])


def _write_lines(path: str) -> beam.io.WriteToText:
    return beam.io.WriteToText(path, num_shards=1, shard_name_template="")


def _take_lines(path: str) -> list[dict[str, Any]]:
    with fileio.open(path, "rb") as file:
        lines = [json.loads(line) for line in file.read().decode().split("\n") if line]
    fileio.remove(path)
    return lines


def _read(split_uri: str) -> beam.io.ReadFromTFRecord:
    return beam.io.ReadFromTFRecord(f"{split_uri}/*")


def _content_and_key(record: bytes) -> tuple[str, str]:
    features = Example.FromString(record).features.feature
    content, key = (features[name].bytes_list.value[0] for name in ("image_bytes", "key"))
    # Of the bytes as they are stored: what ingestion has recorded of the file that was read is not asked.
    return hashlib.sha256(content).hexdigest(), key.decode()


def _split_line(record: bytes, split: str) -> str:
    features = Example.FromString(record).features.feature
    content, key = (features[name].bytes_list.value[0].decode() for name in ("sha256", "key"))
    return json.dumps({"split": split, "content": content, "key": key})


def _count_line(images: int, source: str) -> str:
    return json.dumps({"source": source, "images": images})


def _leak_lines(image: tuple[str, str], *, source: str, test: Mapping[str, str]) -> Iterator[str]:
    content, key = image
    if content in test:
        yield json.dumps({"source": source, "key": key, "test_key": test[content]})


def _message(leaks: list[dict[str, Any]]) -> str:
    named = [f"{leak['source']} {leak['key']!r} is test image {leak['test_key']!r}" for leak in leaks]
    return (
        f"No image may be trained on and tested on: the accuracy would be too good. {len(leaks)} are both: "
        f"{first_few(named)}. Take them out of the training images, or out of the test set."
    )


def _moved_message(moved: list[dict[str, str]], store: str) -> str:
    named = [f"{line['key']!r} is in the {line['split']} split" for line in moved]
    return (
        "What an earlier run has trained on is tested on no more, and what it has tested on is not trained on: a "
        f"model would look better than it is. {len(moved)} labelled images have changed sides: {first_few(named)}. "
        f"Take them out, or give another retrain.store; {store}/{splits.FOLDER} keeps the sides."
    )
