import pytest
from pydantic import ValidationError

from trainer.config import (
    AugmentConfig,
    ClassifierConfig,
    CropConfig,
    EncoderConfig,
    HeadConfig,
    OptimizerConfig,
    PretrainConfig,
    ProbeConfig,
)

EVERY_CONFIG = [EncoderConfig, CropConfig, AugmentConfig, HeadConfig, PretrainConfig, ClassifierConfig, ProbeConfig]


@pytest.mark.parametrize("config", EVERY_CONFIG)
def test_config_json_round_trip_is_equal(config):
    assert config.model_validate_json(config().model_dump_json()) == config()


@pytest.mark.parametrize("config", EVERY_CONFIG)
def test_config_unknown_field_is_refused(config):
    with pytest.raises(ValidationError, match="temprature"):
        config(temprature=0.1)


@pytest.mark.parametrize("config", EVERY_CONFIG)
def test_config_built_cannot_be_changed(config):
    built = config()
    with pytest.raises(ValidationError, match="frozen"):
        setattr(built, next(iter(config.model_fields)), None)


@pytest.mark.parametrize("config", [*EVERY_CONFIG, OptimizerConfig])
def test_config_every_field_says_what_it_is(config):
    described = [
        field.description or hasattr(field.annotation, "model_fields") for field in config.model_fields.values()
    ]
    assert all(described)


@pytest.mark.parametrize(
    ("config", "values", "field"),
    [
        (EncoderConfig, {"stage_blocks": ()}, "stage_blocks"),
        (EncoderConfig, {"stage_blocks": (1, 0)}, "stage_blocks"),
        (EncoderConfig, {"stage_blocks": (1,) * 5}, "stage_blocks"),
        (EncoderConfig, {"width": "16"}, "width"),
        (EncoderConfig, {"width": 16.0}, "width"),
        (EncoderConfig, {"block": "bottlneck"}, "block"),
        (EncoderConfig, {"stem": "large"}, "stem"),
        (CropConfig, {"min_area": 0.0}, "min_area"),
        (CropConfig, {"min_area": 0.5, "max_area": 0.4}, "min_area 0.5 must not exceed max_area 0.4"),
        (CropConfig, {"max_aspect": 0.75}, "max_aspect"),
        (AugmentConfig, {"jitter_strength": 1.26}, "jitter_strength"),
        (AugmentConfig, {"jitter_strength": -0.1}, "jitter_strength"),
        (AugmentConfig, {"grayscale_probability": 1.1}, "grayscale_probability"),
        (AugmentConfig, {"blur_probability": float("nan")}, "blur_probability"),
        (HeadConfig, {"layers": 4}, "layers"),
        (HeadConfig, {"kind": "mlp"}, "kind"),
        (OptimizerConfig, {}, "learning_rate"),
        (OptimizerConfig, {"learning_rate": 0.0}, "learning_rate"),
        (OptimizerConfig, {"learning_rate": float("inf")}, "learning_rate"),
        (OptimizerConfig, {"learning_rate": 1.0, "weight_decay": -1e-6}, "weight_decay"),
        (OptimizerConfig, {"learning_rate": 1.0, "name": "adam"}, "name"),
        (OptimizerConfig, {"learning_rate": 1.0, "warmup_share": 1.5}, "warmup_share"),
        (PretrainConfig, {"temperature": 0.0}, "temperature"),
        (PretrainConfig, {"batch_size": 1}, "batch_size"),  # no negatives
        (PretrainConfig, {"epochs": 0}, "epochs"),
        (PretrainConfig, {"checkpoint_every_steps": 0}, "checkpoint_every_steps"),
        (ClassifierConfig, {"steps": True}, "steps"),
        (ProbeConfig, {"folds": 1}, "folds"),
        (ProbeConfig, {"inverse_regularization": ()}, "inverse_regularization"),
        (ProbeConfig, {"knn_k": 0}, "knn_k"),
    ],
)
def test_config_impossible_value_is_refused_by_its_name(config, values, field):
    with pytest.raises(ValidationError, match=field):
        config(**values)


def test_config_strongest_jitter_without_negative_factors_is_accepted():
    strongest = AugmentConfig(jitter_strength=1.25)
    assert 1 - 0.8 * strongest.jitter_strength == 0
