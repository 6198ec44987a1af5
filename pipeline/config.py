"""The configuration of a run: typed, frozen, complete. What it refuses, it refuses before anything runs."""

import math
import os
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from components.drift.settings import DriftConfig
from components.span_ingest.settings import RetrainConfig
from components.training.settings import DistillationConfig, WarmStartConfig
from pipeline.cloud import DataflowConfig, VertexConfig
from trainer.config import Count, PretrainConfig, Probability, Settings, StagesConfig, load

_SAMPLE = {
    "unlabeled": "data/cifar10_sample/train.tar",
    "labeled": "data/cifar10_sample/train.tar",
    "test": "data/cifar10_sample/test.tar",
}


class DataConfig(Settings):
    """Where the images are, and what is done with those that are broken."""

    unlabeled: str | None = Field(
        None,
        description="images to pretrain on: a folder, archive, TFRecords or a glob, local or gs://; null: `labeled`, "
        "or the embedded sample if all three are null",
    )
    labeled: str | None = Field(
        None, description="images with labels: class-named folders, .cls members, a manifest, or labelled TFRecords"
    )
    test: str | None = Field(
        None, description="labelled images that only score; null: a share of `labeled` is held out"
    )
    labeled_manifest: str | None = Field(
        None, description="CSV, TSV or JSONL with path or key, label, optional split; null: found beside the images"
    )
    test_manifest: str | None = Field(None, description="the same for `test`")
    holdout_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.1, description="share of the labelled images held out, by a hash of their keys, where `test` is null"
    )
    image_size_px: Annotated[int, Field(ge=8)] | None = Field(
        None,
        description="short side of the stored images; null: the median of each source, at most `max_image_size_px`, "
        "and every network takes the labelled images' size",
    )
    max_image_size_px: Annotated[int, Field(ge=8)] = Field(64, description="what a laptop trains on in minutes")
    max_pixels: Count = Field(50_000_000, description="an image of more is rejected as a decompression bomb")
    max_rejected_share: Probability = Field(
        0.2, description="more rejected images than this stop the run; of a delivery that becomes a span, ten or more"
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_sources(cls, values: Any) -> Any:
        """Nothing given: the sample. Labelled images only: they are pretrained on as well, without their labels."""
        if not isinstance(values, dict):
            return values
        given = {name for name in _SAMPLE if values.get(name) is not None}
        if not given:
            return {**values, **_SAMPLE}
        if "labeled" not in given:
            raise ValueError(
                f"data.labeled must be given beside data.{sorted(given)[0]}: labels are what is compared"
            )
        return {**values, "unlabeled": values.get("unlabeled") or values["labeled"]}


class GateConfig(Settings):
    """What a model must reach to be pushed."""

    min_top1: Probability = Field(0.2, description="least top-1 accuracy on the test images")
    max_regression: Probability = Field(
        0.02,
        description="margin: the loss of top-1 against the champion, on the same test images, that is borne",
    )
    judged_by: Literal["interval", "estimate"] = Field(
        "interval",
        description="what must not lie under the margin: the lower end of the difference's interval, so that a "
        "larger loss is ruled out, or the measured difference, which a small test set leaves to chance",
    )
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = Field(
        0.95, description="of the two-sided interval; a model worse by the margin passes in half of what it leaves"
    )
    resamples: Annotated[int, Field(ge=1_000)] = Field(10_000, description="of the paired bootstrap")

    @model_validator(mode="after")
    def _interval_has_tails(self) -> "GateConfig":
        least = math.ceil(round(2 / (1 - self.confidence), 3))
        if self.resamples < least:
            raise ValueError(
                f"resamples = {self.resamples}: an interval of confidence {self.confidence} needs {least} or more"
            )
        return self


class BeamConfig(Settings):
    """How the Beam stages run."""

    runner: Literal["local", "dataflow"] = Field(
        "local",
        description="in the node itself, or, for ingestion, statistics, transform, split and leakage gate, on "
        "workers of Dataflow",
    )
    workers: Count = Field(
        1, description="1 runs in this process; more start worker processes, worth it from 10⁵ images"
    )
    dataflow: DataflowConfig = DataflowConfig()


class PipelineConfig(StagesConfig):
    """One run of the pipeline."""

    data: DataConfig = DataConfig()
    fractions: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (0.01, 0.1), min_length=1, description="shares of the labels to learn from; class-balanced and nested"
    )
    warm_start: WarmStartConfig = WarmStartConfig()
    distill: DistillationConfig = Field(DistillationConfig(), validate_default=True)
    gate: GateConfig = GateConfig()
    retrain: RetrainConfig = RetrainConfig()
    drift: DriftConfig = DriftConfig()
    beam: BeamConfig = BeamConfig()
    vertex: VertexConfig = VertexConfig()
    output: str = Field("runs/local", min_length=1, description="folder of everything that a run leaves")

    @field_validator("distill", mode="before")
    @classmethod
    def _student_is_like_its_teacher(cls, distill: Any, info: ValidationInfo) -> Any:
        """What is not said of the student is as of `pretrain.encoder`: without a word, self-distillation."""
        distill = distill.model_dump(exclude_unset=True) if isinstance(distill, Settings) else distill
        student = distill.get("student", {}) if isinstance(distill, dict) else None
        if not isinstance(student, dict):
            return distill
        # What a validator has seen is no longer JSON, whose arrays are tuples to it.
        given = {name: tuple(value) if isinstance(value, list) else value for name, value in student.items()}
        like = info.data["pretrain"].encoder.model_dump() if "pretrain" in info.data else {}
        return {**distill, "student": {**like, **given}}

    @field_validator("fractions")
    @classmethod
    def _fractions_rise(cls, fractions: tuple[float, ...]) -> tuple[float, ...]:
        if list(fractions) != sorted(set(fractions)):
            raise ValueError("list each fraction once, in rising order")
        return fractions

    @model_validator(mode="after")
    def _is_not_written_into_sources(self) -> "PipelineConfig":
        """Else the next run would read as images what this one has written."""
        written = {
            "output": self.output,
            "retrain.store": self.retrain.store,
            "vertex.pipeline_root": self.vertex.pipeline_root,
            "beam.dataflow.temp_location": self.beam.dataflow.temp_location,
        }
        for name, folder in written.items():
            for source in ("unlabeled", "labeled", "test"):
                images = getattr(self.data, source)
                if folder and images and f"{_whole(folder)}/".startswith(f"{_whole(images)}/"):
                    raise ValueError(
                        f"{name} = {folder!r}: inside of data.{source} = {images!r}, so the next run would read as "
                        "images what this one has written; take a folder beside it"
                    )
        return self

    @model_validator(mode="after")
    def _sizes_agree(self) -> "PipelineConfig":
        sizes = {
            "pretrain.augment.crop.size_px": self.pretrain.augment.crop.size_px,
            "finetune.augment.crop.size_px": self.finetune.augment.crop.size_px,
            "supervised.augment.crop.size_px": self.supervised.augment.crop.size_px,
        }
        if self.distill.enabled:
            sizes["distill.augment.crop.size_px"] = self.distill.augment.crop.size_px
        if len(set(sizes.values())) > 1:
            given = ", ".join(f"{name} = {'null' if size is None else size}" for name, size in sizes.items())
            raise ValueError(
                f"{given}: what is pretrained is fine-tuned and teaches, and the baseline must be the same network, "
                "so set all of them to one size or to null"
            )
        return self

    @model_validator(mode="after")
    def _strategies_use_the_machines(self) -> "PipelineConfig":
        machines = self.vertex.pretraining
        for name, training in self.on_pretraining_machines.items():
            strategy = training.compute.strategy
            if machines.machine_type is not None and strategy != machines.strategy:
                raise ValueError(
                    f"{name}.compute.strategy = {strategy}: vertex.pretraining hires {machines.machines} of "
                    f"{machines.machine_type} with accelerator_count {machines.accelerator_count}, which "
                    f"{machines.strategy} uses"
                )
        return self

    @model_validator(mode="after")
    def _machines_divide_the_batches(self) -> "PipelineConfig":
        machines = self.vertex.pretraining
        for name, training in self.on_pretraining_machines.items():
            batch_size = training.batch_size
            if machines.machine_type is not None and batch_size is not None and batch_size % machines.replicas:
                near = batch_size // machines.replicas * machines.replicas or machines.replicas
                raise ValueError(
                    f"{name}.batch_size = {batch_size}: vertex.pretraining hires {machines.replicas} replicas, each "
                    f"of which takes as many images: set it to a multiple of {machines.replicas}, such as {near}"
                )
        return self

    @property
    def on_pretraining_machines(self) -> dict[str, PretrainConfig | DistillationConfig]:
        """The trainings on all unlabeled images, by section: `vertex.pretraining` has machines for them."""
        trainings: dict[str, PretrainConfig | DistillationConfig] = {"pretrain": self.pretrain}
        return trainings | ({"distill": self.distill} if self.distill.enabled else {})

    @model_validator(mode="after")
    def _probe_needs_no_images(self) -> "PipelineConfig":
        if self.probe.method == "gradient":
            raise ValueError(
                "probe.method = gradient: LinearEval solves its probe on stored features: choose logistic or ridge, "
                "or `python -m trainer probe`"
            )
        return self


def load_config(path: str | None = None, overrides: Sequence[str] = ()) -> PipelineConfig:
    """The configuration from a YAML file and `field.path=value` overrides; see `trainer.config.load`.

    Raises:
        ConfigError: a file that is not there, a line that is not YAML, an unknown field, an impossible value.
    """
    return load(PipelineConfig, defaults=_defaults(), path=path, overrides=overrides)


def _defaults() -> dict[str, Any]:
    """All defaults, so that giving one field of a section leaves the section's others as they are.

    What follows from other fields is left out.
    """
    settings = PipelineConfig().model_dump(mode="json")
    settings["data"].update(dict.fromkeys(_SAMPLE))
    settings["distill"]["student"] = {}
    return settings


def _whole(path: str) -> str:
    """A path that tells what lies below it; of a scheme alone, which is refused elsewhere, nothing does."""
    if path.endswith("://"):
        return path
    return path.rstrip("/") if "://" in path else os.path.realpath(path)
