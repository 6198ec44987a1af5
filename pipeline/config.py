"""The configuration of a run: typed, frozen, complete. What it refuses, it refuses before anything runs."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from trainer.config import (
    ClassifierConfig,
    Count,
    OptimizerConfig,
    PretrainConfig,
    Probability,
    ProbeConfig,
    Seed,
    Settings,
)

_SAMPLE = {
    "unlabeled": "data/cifar10_sample/train.tar",
    "labeled": "data/cifar10_sample/train.tar",
    "test": "data/cifar10_sample/test.tar",
}


class ConfigError(ValueError):
    """A configuration that cannot be run; the message names field, value and what is allowed."""


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
        None, description="short side of the stored images; null: the median of the data, at most `max_image_size_px`"
    )
    max_image_size_px: Annotated[int, Field(ge=8)] = Field(64, description="what a laptop trains on in minutes")
    max_pixels: Count = Field(50_000_000, description="an image of more is rejected as a decompression bomb")
    max_rejected_share: Probability = Field(0.2, description="more rejected images than this stop the run")

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
        0.0, description="how far top-1 may fall under the current champion's on the same images"
    )


class BeamConfig(Settings):
    """How the Beam stages run."""

    workers: Count = Field(
        1, description="1 runs in this process; more start worker processes, worth it from 10⁵ images"
    )


class PipelineConfig(Settings):
    """One run of the pipeline."""

    data: DataConfig = DataConfig()
    fractions: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (0.01, 0.1), min_length=1, description="shares of the labels to learn from; class-balanced and nested"
    )
    pretrain: PretrainConfig = PretrainConfig()
    probe: ProbeConfig = ProbeConfig()
    finetune: ClassifierConfig = ClassifierConfig()
    supervised: ClassifierConfig = ClassifierConfig(
        steps=600, optimizer=OptimizerConfig(name="adamw", learning_rate=0.01, weight_decay=0.01)
    )
    gate: GateConfig = GateConfig()
    beam: BeamConfig = BeamConfig()
    seed: Seed = Field(0, description="of label subsets, weights, order and views")
    output: str = Field("runs/local", description="folder of everything that a run leaves")

    @field_validator("fractions")
    @classmethod
    def _fractions_rise(cls, fractions: tuple[float, ...]) -> tuple[float, ...]:
        if list(fractions) != sorted(set(fractions)):
            raise ValueError("list each fraction once, in rising order")
        return fractions

    @model_validator(mode="after")
    def _sizes_agree(self) -> "PipelineConfig":
        sizes = {
            "pretrain.augment.crop.size_px": self.pretrain.augment.crop.size_px,
            "finetune.crop.size_px": self.finetune.crop.size_px,
            "supervised.crop.size_px": self.supervised.crop.size_px,
        }
        if len(set(sizes.values())) > 1:
            given = ", ".join(f"{name} = {'null' if size is None else size}" for name, size in sizes.items())
            raise ValueError(
                f"{given}: what is pretrained is fine-tuned, and the baseline must be the same network, so set all "
                "three to one size or to null"
            )
        return self


def load_config(path: str | None = None, overrides: Sequence[str] = ()) -> PipelineConfig:
    """Builds the configuration from a YAML file and `field.path=value` overrides, later ones winning.

    Args:
        path: of a YAML file with any part of the fields; None: the defaults.
        overrides: such as `pretrain.temperature=0.1`; the value is YAML.

    Raises:
        ConfigError: a file that is not there, a line that is not YAML, an unknown field, an impossible value.
    """
    given = _read_yaml(path) if path else {}
    for override in overrides:
        _apply(given, override)
    settings = _merge(_defaults(), given)
    try:
        # YAML knows dates; no field is one, and as a word it is accepted or refused like any other.
        return PipelineConfig.model_validate_json(json.dumps(settings, default=str))
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(details) for details in error.errors())) from None


def _defaults() -> dict[str, Any]:
    """All defaults, so that giving one field of a section leaves the section's others as they are."""
    settings = PipelineConfig().model_dump(mode="json")
    settings["data"].update(dict.fromkeys(_SAMPLE))
    return settings


def _merge(base: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in given.items():
        both = isinstance(value, dict) and isinstance(base.get(name), dict)
        merged[name] = _merge(base[name], value) if both else value
    return merged


class _Yaml12Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-4 as a number, as YAML 1.2 and people do."""


_Yaml12Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _read_yaml(path: str) -> dict[str, Any]:
    try:
        settings = yaml.load(Path(path).read_text(encoding="utf-8"), _Yaml12Loader)
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path!r}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise ConfigError(f"{path} must hold fields with values, such as 'seed: 1', not a {type(settings).__name__}")
    return settings


def _apply(settings: dict[str, Any], override: str) -> None:
    field, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"{override!r} is not an override: write field=value, such as pretrain.temperature=0.1")
    *parents, name = field.strip().split(".")
    for parent in parents:
        settings = settings.setdefault(parent, {})
        if not isinstance(settings, dict):
            raise ConfigError(f"{field}: {parent} has a value of its own, so it has no field {name}")
    try:
        settings[name] = yaml.load(text, _Yaml12Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{override!r}: the value is not YAML: {error}") from error


def _explain(details: dict[str, Any]) -> str:
    """One line for one fault: the field, the value, what is allowed."""
    field = ".".join(str(part) for part in details["loc"]) or "configuration"
    if details["type"] == "extra_forbidden":
        return f"{field}: there is no such field; `python -m pipeline config` lists them all"
    message = details["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if details["type"] == "missing":
        return f"{field}: must be given"
    value = details["input"]
    shown = "" if isinstance(value, dict) else f" = {value!r}"
    return f"{field}{shown}: {'must be ' if details['msg'].startswith('Input should be') else ''}{message}"


def dump_config(config: PipelineConfig) -> str:
    """The whole configuration as YAML that `load_config` reads back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
