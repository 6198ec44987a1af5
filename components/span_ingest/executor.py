"""TFX's shell around a cycle: artifacts and parameters in, artifacts out."""

import posixpath
from typing import Any

from absl import logging
from tfx import types
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_executor
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils

from components.image_example_gen import ingest
from components.image_example_gen.executor import excluded_files
from components.span_ingest import account, cycle, window
from components.span_ingest.settings import SPANS_FILE, RetrainConfig
from components.span_ingest.store import SpanStore

_SPLIT = "train"


class Executor(base_beam_executor.BaseBeamExecutor):
    """Makes the next span of what is new, and lays out the window if there is enough to train on."""

    def Do(  # noqa: N802 - TFX names it.
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs one cycle.

        Raises:
          ValueError: the source does not exist, too much of a delivery was rejected, or the store is damaged.
        """
        settings = RetrainConfig.model_validate_json(exec_properties["settings"])
        store = SpanStore(settings.store)
        test_files = excluded_files(input_dict["exclude"])
        trained = store.trained()
        found = cycle.run(
            store,
            cycle.Settings(
                source=exec_properties["source"],
                settle_s=settings.settle_s,
                # Numbers arrive as floats from Vertex.
                max_pixels=int(exec_properties["max_pixels"]),
                max_rejected_share=float(exec_properties["max_rejected_share"]),
                num_shards=int(exec_properties["num_shards"]),
                with_perceptual_hash=settings.near_duplicate_bits is not None,
            ),
            cycle.reader(self._make_beam_pipeline, test_files),
        )
        parts = window.choose(
            found.spans,
            trained=trained,
            last=settings.window_spans,
            half_life_spans=settings.half_life_spans,
        )
        tested_on = window.hashes_in(test_files)
        shares = window.shares(found.ledger, parts, tested_on=tested_on, seed=int(exec_properties["seed"]))
        in_window = sum(share.images for share in shares)
        verdict = cycle.judge(
            found.spans,
            trained=trained,
            in_window=in_window,
            min_new_images=settings.min_new_images,
            min_window_images=int(exec_properties["min_window_images"]),
        )
        examples = artifact_utils.get_single_instance(output_dict["examples"])
        examples.split_names = artifact_utils.encode_split_names([_SPLIT])
        examples_utils.set_payload_format(examples, example_gen_pb2.FORMAT_TF_EXAMPLE)
        folder = artifact_utils.get_split_uri([examples], _SPLIT)
        fileio.makedirs(folder)
        window.lay_out(store, shares if verdict.proceed else (), folder)
        examples.set_int_custom_property("span", found.spans[-1].number if found.spans else 0)
        examples.set_int_custom_property("images", in_window)
        told = account.spans_json(
            found,
            verdict,
            parts,
            shares,
            trained=trained,
            tested_on=tested_on,
            near_duplicate_bits=settings.near_duplicate_bits,
        )
        summary = artifact_utils.get_single_instance(output_dict["summary"])
        summary.set_int_custom_property("proceed", int(verdict.proceed))
        fileio.makedirs(summary.uri)
        for name, text in {
            "rejects.jsonl": account.rejects_jsonl(found.ledger, shares),
            "summary.json": account.summary_json(found.ledger, shares),
            SPANS_FILE: told,
        }.items():
            ingest.write_text(posixpath.join(summary.uri, name), text)
        for note in found.notes:
            logging.warning("%s", note)
        logging.info("%s", verdict.words)
