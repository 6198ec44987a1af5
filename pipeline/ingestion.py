"""The nodes that read images, and the one that notes what was trained on."""

import json
from collections.abc import Sequence
from typing import Any

from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.experimental.conditionals.conditional import Cond
from tfx.types import BaseChannel

from components.image_example_gen.component import ImageExampleGen
from components.report.component import Report
from components.span_ingest.component import SpanIngest
from components.span_ingest.trained import SpanTrained
from pipeline.code_version import code_version
from pipeline.config import PipelineConfig

UNLABELED, LABELED = "unlabeled", "labeled"


def labeled_images(config: PipelineConfig, fingerprint: str) -> ImageExampleGen:
    """Reads the labelled images and the test images, or holds some of the labelled ones out as these."""
    data = config.data
    sources = [
        {
            "name": "labeled",
            "path": data.labeled,
            "split": "train",
            "labeled": True,
            "manifest": data.labeled_manifest,
        }
    ]
    if data.test:
        sources.append(
            {"name": "test", "path": data.test, "split": "test", "labeled": True, "manifest": data.test_manifest}
        )
    return _image_example_gen(
        LABELED,
        config,
        sources,
        fingerprint,
        holdout_fraction=0.0 if data.test else data.holdout_fraction,
        store=config.retrain.store,
    )


def unlabeled_images(config: PipelineConfig, fingerprint: str, labeled_images: ImageExampleGen) -> ImageExampleGen:
    """Reads all unlabeled images, where there are no spans."""
    source = {"name": "unlabeled", "path": config.data.unlabeled, "split": "train", "labeled": False}
    # No image of the test set may be pretrained on, not even as a copy under another name.
    held_out = labeled_images.outputs["examples"]
    return _image_example_gen(UNLABELED, config, [source], fingerprint, holdout_fraction=0.0, exclude=held_out)


def _image_example_gen(
    name: str,
    config: PipelineConfig,
    sources: list[dict[str, Any]],
    fingerprint: str,
    *,
    holdout_fraction: float,
    store: str | None = None,
    exclude: BaseChannel | None = None,
) -> ImageExampleGen:
    return ImageExampleGen(
        sources=json.dumps(sources),
        holdout_fraction=holdout_fraction,
        max_pixels=config.data.max_pixels,
        max_rejected_share=config.data.max_rejected_share,
        exclude=exclude,
        store=store,
        fingerprint=fingerprint,
        code_version=code_version("components.image_example_gen.executor"),
    ).with_id(f"ImageExampleGen-{name}")


def new_images(config: PipelineConfig, fingerprint: str, labeled_images: ImageExampleGen) -> SpanIngest:
    """Reads the unlabeled images that are new, and gives the window of spans."""
    return SpanIngest(
        source=config.data.unlabeled,
        settings=config.retrain.model_dump_json(),
        exclude=labeled_images.outputs["examples"],
        max_pixels=config.data.max_pixels,
        max_rejected_share=config.data.max_rejected_share,
        min_window_images=config.pretrain.batch_size or 1,
        seed=config.seed,
        fingerprint=fingerprint,
        code_version=code_version("components.span_ingest.executor"),
    )


def there_is_enough(images: SpanIngest) -> Cond:
    """The condition under which what is made within it runs.

    Of the forms of one only a custom property's comparison runs on both runners. It is the summary's: where the first
    node under a condition reads the very artifact that it looks at, KubeflowV2DagRunner compiles an input that there
    isn't. Of the nodes only the Report reads the summary, and it is never the first.
    """
    return Cond(images.outputs["summary"].future()[0].custom_property("proceed") == 1)


def span_trained(
    config: PipelineConfig, fingerprint: str, images: SpanIngest, report: Report, others: Sequence[BaseNode]
) -> BaseNode:
    """Notes that the window was trained on, when the report and the other nodes are done."""
    trained = SpanTrained(
        examples=images.outputs["examples"],
        report=report.outputs["report"],
        store=config.retrain.store,
        fingerprint=fingerprint,
        code_version=code_version("components.span_ingest.trained"),
    )
    for node in others:
        trained.add_upstream_node(node)
    return trained
