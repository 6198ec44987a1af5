"""TFX's shell around the ingestion: artifacts and parameters in, artifacts out."""

import dataclasses
import posixpath
from typing import Any

from absl import logging
from apache_beam.io.filesystems import FileSystems
from tfx import types
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_executor
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils
from tfx.utils import io_utils

from components.image_example_gen import ingest, labels, scratch, sources, splits, summary


class Executor(base_beam_executor.BaseBeamExecutor):
    """Reads the sources, writes Examples and the account of what became of every file."""

    def Do(  # noqa: N802 - TFX names it.
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the ingestion.

        Raises:
          ValueError: for a path or manifest that cannot be used, labels that cannot be found, more rejects than
            allowed, a split left without images, or a store of which something is damaged.
          RuntimeError: another run of the same store has meanwhile put an image into the other split.
        """
        # The file may have changed since an earlier run in this process.
        labels.load_manifest.cache_clear()
        parameters = Parameters.parse(exec_properties)
        examples = artifact_utils.get_single_instance(output_dict["examples"])
        summary_uri = artifact_utils.get_single_instance(output_dict["summary"]).uri
        planned = [sources.plan(source) for source in sources.parse_sources(parameters.sources)]
        found = [source for source, _ in planned]
        split_names = _split_names(found, parameters.holdout_fraction)
        examples.split_names = artifact_utils.encode_split_names(split_names)
        examples_utils.set_payload_format(examples, example_gen_pb2.FORMAT_TF_EXAMPLE)

        work = [item for _, items in planned for item in items]
        settings = ingest.Settings(
            splits=tuple(split_names),
            split_uris=tuple(artifact_utils.get_split_uri([examples], split) for split in split_names),
            work_uri=posixpath.join(summary_uri, "work"),
            num_shards=ingest.shards_for(work, at_least=parameters.num_shards),
            max_pixels=parameters.max_pixels,
            holdout_fraction=parameters.holdout_fraction,
        )
        for folder in settings.split_uris:
            fileio.makedirs(folder)
        scratch.make_folder(settings.work_uri)
        store = exec_properties.get("store")
        try:
            if store:
                splits_uri = scratch.leave(settings.work_uri, splits.read(store))
                settings = dataclasses.replace(settings, splits_uri=splits_uri)
            with self._make_beam_pipeline() as pipeline:
                ingest.build(pipeline, work, excluded_files(input_dict.get("exclude")), settings)
            part = ingest.collect(settings, work_count=len(work))
        finally:
            # It holds all images a second time.
            fileio.rmtree(settings.work_uri)
        _report(part, settings, found, summary_uri, max_rejected_share=parameters.max_rejected_share)
        if store:
            splits.keep(store, part.splits)


@dataclasses.dataclass(frozen=True)
class Parameters:
    """The execution's parameters, checked. Numbers may arrive as floats from Vertex."""

    sources: str
    holdout_fraction: float
    max_pixels: int
    max_rejected_share: float
    num_shards: int

    @classmethod
    def parse(cls, exec_properties: dict[str, Any]) -> "Parameters":
        """Raises ValueError for a value out of range, naming it and what is allowed."""
        parameters = cls(
            sources=exec_properties["sources"],
            holdout_fraction=float(exec_properties["holdout_fraction"]),
            max_pixels=int(exec_properties["max_pixels"]),
            max_rejected_share=float(exec_properties["max_rejected_share"]),
            num_shards=int(exec_properties["num_shards"]),
        )
        for name, valid, allowed in (
            ("holdout_fraction", 0 <= parameters.holdout_fraction < 1, "at least 0 and below 1"),
            ("max_pixels", parameters.max_pixels >= 1, "at least 1"),
            ("max_rejected_share", 0 <= parameters.max_rejected_share <= 1, "from 0 to 1"),
            ("num_shards", parameters.num_shards >= 1, "at least 1"),
        ):
            if not valid:
                raise ValueError(f"{name} must be {allowed}; received {getattr(parameters, name)}.")
        return parameters


def _split_names(found: list[sources.Source], holdout_fraction: float) -> list[str]:
    names = {source.split for source in found}
    for source in found:
        if source.manifest and source.split == "train" and labels.load_manifest(source.manifest).has_test_rows:
            names.add("test")
        if source.labeled and source.split == "train" and holdout_fraction > 0:
            names.add("test")
    return sorted(names, reverse=True)


def excluded_files(exclude: list[types.Artifact] | None) -> list[str]:
    """The TFRecords of the test split of Examples; none if there are no Examples."""
    if not exclude:
        return []
    pattern = io_utils.all_files_pattern(artifact_utils.get_split_uri(exclude, "test"))
    return sorted(found.path for found in FileSystems.match([pattern])[0].metadata_list)


def _report(
    part: ingest.Part,
    settings: ingest.Settings,
    found: list[sources.Source],
    summary_uri: str,
    *,
    max_rejected_share: float,
) -> None:
    accounts = part.accounts
    summary.check(accounts, found, splits=settings.splits, max_rejected_share=max_rejected_share)
    ingest.write_text(posixpath.join(summary_uri, "rejects.jsonl"), summary.rejects_json(part.rejects))
    ingest.write_text(
        posixpath.join(summary_uri, "summary.json"),
        summary.to_json(accounts, found, matched_rows=part.matched_rows),
    )
    for name, account in accounts.items():
        logging.info(
            "%s: read %d = kept %d + duplicate %d + rejected %d",
            *(name, account.read, account.kept, account.duplicate, account.rejected),
        )
