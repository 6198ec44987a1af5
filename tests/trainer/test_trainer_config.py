import pytest
from pydantic import ValidationError

from trainer.config import (
    PRESETS,
    AugmentConfig,
    ClassifierConfig,
    ComputeConfig,
    ConfigError,
    CropConfig,
    DiagnosticsConfig,
    DistillConfig,
    EncoderConfig,
    GradientCacheConfig,
    HeadConfig,
    MemoryConfig,
    MethodConfig,
    OptimizerConfig,
    PretrainConfig,
    ProbeConfig,
    dump,
    encoder_of_depth,
    finetuning_on,
    load,
)

EVERY_CONFIG = [
    EncoderConfig,
    CropConfig,
    AugmentConfig,
    HeadConfig,
    ComputeConfig,
    MemoryConfig,
    GradientCacheConfig,
    DiagnosticsConfig,
    PretrainConfig,
    ClassifierConfig,
    DistillConfig,
    ProbeConfig,
    MethodConfig,
]
NO_COLOUR = {"jitter_strength": 0.0, "grayscale_probability": 0.0}


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
        (AugmentConfig, {"blur_max_sigma_px": 0.05}, "blur_max_sigma_px"),
        (AugmentConfig, {"cutout_side": 0.0}, "cutout_side"),
        (AugmentConfig, {"noise_max_sigma": 1.5}, "noise_max_sigma"),
        (AugmentConfig, {"brightness": "added"}, "brightness"),
        (AugmentConfig, {"policy": "randaugment"}, "policy"),
        (
            AugmentConfig,
            {"policy": "autoaugment"},
            "takes the place of jitter_strength 0.5, grayscale_probability 0.2:",
        ),
        (
            AugmentConfig,
            {**NO_COLOUR, "policy": "autoaugment", "cutout_probability": 0.5},
            "takes the place of cutout_probability 0.5: set each to 0",
        ),
        (CropConfig, {"interpolation": "nearest"}, "interpolation"),
        (CropConfig, {"flip_probability": 1.5}, "flip_probability"),
        (CropConfig, {"probability": -0.5}, "probability"),
        (ClassifierConfig, {"augment": AugmentConfig(one_sided=True)}, "augment.one_sided true: only pretraining"),
        (DistillConfig, {"augment": AugmentConfig(one_sided=True)}, "augment.one_sided true: only pretraining"),
        (HeadConfig, {"layers": 4}, "layers"),
        (HeadConfig, {"kind": "mlp"}, "kind"),
        (OptimizerConfig, {}, "learning_rate"),
        (OptimizerConfig, {"learning_rate": 0.0}, "learning_rate"),
        (OptimizerConfig, {"learning_rate": float("inf")}, "learning_rate"),
        (OptimizerConfig, {"learning_rate": 1.0, "weight_decay": -1e-6}, "weight_decay"),
        (OptimizerConfig, {"learning_rate": 1.0, "name": "adam"}, "name"),
        (OptimizerConfig, {"learning_rate": 1.0, "warmup_share": 1.5}, "warmup_share"),
        (OptimizerConfig, {"learning_rate": 1.0, "warmup_epochs": -1.0}, "warmup_epochs"),
        (
            OptimizerConfig,
            {"learning_rate": 1.0, "warmup_share": 0.1, "warmup_epochs": 10.0},
            "warmup_epochs 10.0 takes the place of warmup_share 0.1",
        ),
        (OptimizerConfig, {"learning_rate": 1.0, "scaling": "log"}, "scaling"),
        (EncoderConfig, {"sk_ratio": 0.0625}, "sk_ratio 0.0625 needs block bottleneck"),
        (EncoderConfig, {"norm": "instance"}, "norm"),
        (MemoryConfig, {"momentum": 1.0}, "momentum"),
        (GradientCacheConfig, {"chunk_size": 0}, "chunk_size"),
        (ComputeConfig, {"strategy": "gpu"}, "strategy"),
        (DiagnosticsConfig, {"every_steps": -1}, "every_steps"),
        (DiagnosticsConfig, {"images": 3}, "images"),
        (ClassifierConfig, {"steps": None, "epochs": None}, "steps and epochs are both null"),
        (MethodConfig, {"finetune": ClassifierConfig(head_layer=3)}, "finetune.head_layer 3"),
        (MethodConfig, {"supervised": ClassifierConfig(head_layer=1)}, "supervised.head_layer 1"),
        (PretrainConfig, {"temperature": 0.0}, "temperature"),
        (PretrainConfig, {"batch_size": 1}, "batch_size"),  # no negatives
        (PretrainConfig, {"epochs": 0}, "epochs"),
        (PretrainConfig, {"checkpoint_every_steps": 0}, "checkpoint_every_steps"),
        (ClassifierConfig, {"kept_checkpoints": 0}, "kept_checkpoints"),
        (DistillConfig, {"checkpoint_every_steps": 0}, "checkpoint_every_steps"),
        (ClassifierConfig, {"steps": True}, "steps"),
        (ProbeConfig, {"folds": 1}, "folds"),
        (ProbeConfig, {"inverse_regularization": ()}, "inverse_regularization"),
        (ProbeConfig, {"knn_k": 0}, "knn_k"),
    ],
)
def test_config_impossible_value_is_refused_by_its_name(config, values, field):
    with pytest.raises(ValidationError, match=field):
        config(**values)


@pytest.mark.parametrize(
    "switch",
    [
        "jitter_strength",
        "grayscale_probability",
        "blur_probability",
        "rotate_probability",
        "sobel_probability",
        "noise_probability",
        "cutout_probability",
    ],
)
def test_config_autoaugment_with_another_op_is_refused_and_any_op_alone_is_not(switch):
    only = AugmentConfig(**{**NO_COLOUR, switch: 0.5})
    with pytest.raises(ValidationError, match=f"policy autoaugment takes the place of {switch} 0.5"):
        AugmentConfig(**{**only.model_dump(), "policy": "autoaugment"})
    assert AugmentConfig(**NO_COLOUR, policy="autoaugment", one_sided=True).policy == "autoaugment"


def test_config_strongest_jitter_without_negative_factors_is_accepted():
    strongest = AugmentConfig(jitter_strength=1.25)
    assert 1 - 0.8 * strongest.jitter_strength == 0


@pytest.mark.parametrize(
    ("steps", "epochs", "steps_per_epoch", "total"),
    [(400, 300, 1, 300), (400, 300, 6, 400), (None, 90, 2, 180), (5, None, 2, 5), (400, 1, 6, 6)],
)
def test_classifier_ends_at_whichever_limit_comes_first(steps, epochs, steps_per_epoch, total):
    assert ClassifierConfig(steps=steps, epochs=epochs).total_steps(steps_per_epoch) == total


@pytest.mark.parametrize(
    ("scaling", "peak"),
    [("none", 0.3), ("linear", 4.8), ("sqrt", 19.2)],  # 0.3, 0.3 * 4096/256, 0.3 * 64
)
def test_peak_learning_rate_follows_the_batch_as_configured(scaling, peak):
    assert OptimizerConfig(learning_rate=0.3, scaling=scaling).peak(4096) == pytest.approx(peak)


def test_presets_have_the_papers_learning_rates():
    peaks = {
        name: preset().pretrain.optimizer.peak(preset().pretrain.batch_size)
        for name, preset in PRESETS.items()
        if name != "laptop"
    }
    assert peaks == pytest.approx(
        {"cifar10_r18": 2.0, "imagenet_r50_v1": 4.8, "imagenet_r50_v2": 6.4, "imagenet_r152_3x_sk_v2": 6.4}
    )
    assert PRESETS["imagenet_r50_v2"]().finetune.optimizer.peak(1024) == pytest.approx(0.16)


def test_presets_have_the_papers_views():
    views = {name: preset().pretrain.augment for name, preset in PRESETS.items()}
    brightness = {name: view.brightness for name, view in views.items()}
    assert brightness.pop("imagenet_r50_v1") == "additive" and set(brightness.values()) == {"multiplicative"}
    bicubic = {name for name, view in views.items() if view.crop.interpolation == "bicubic"}
    assert (
        bicubic
        == {"imagenet_r50_v1", "imagenet_r50_v2", "imagenet_r152_3x_sk_v2"}
        == {name for name, view in views.items() if view.blur_probability == 0.5 and view.jitter_strength == 1.0}
    )
    assert PRESETS["imagenet_r50_v2"]().finetune.augment.crop.interpolation == "bicubic"


@pytest.mark.parametrize(
    ("name", "head_layers"),
    [("imagenet_r50_v1", (0, 0, 0)), ("imagenet_r50_v2", (1, 1, 0)), ("imagenet_r152_3x_sk_v2", (1, 1, 0))],
)
def test_finetuning_on_more_labels_is_shorter_and_on_all_of_them_starts_from_h(name, head_layers):
    start = PRESETS[name]().finetune
    tuned = [finetuning_on(start, fraction) for fraction in (0.01, 0.1, 1.0)]
    assert [config.epochs for config in tuned] == [60, 30, 30]
    assert tuple(config.head_layer for config in tuned) == head_layers
    for config in tuned:
        assert start == config.model_copy(update={"epochs": 60, "head_layer": head_layers[0]})


def test_finetuning_that_steps_alone_end_is_as_long_on_more_labels():
    assert finetuning_on(ClassifierConfig(steps=5, epochs=None), 0.1) == ClassifierConfig(steps=5, epochs=None)


def test_presets_distil_as_they_pretrain_and_by_the_papers_temperatures():
    presets = {name: preset() for name, preset in PRESETS.items() if name != "laptop"}
    for name, config in presets.items():
        assert config.distill.batch_size == config.pretrain.batch_size and config.distill.epochs == 400
        if name != "imagenet_r50_v1":  # whose paper distils nothing
            assert config.distill.optimizer == config.pretrain.optimizer
    students = {name: config.distill.student for name, config in presets.items()}
    assert students.pop("cifar10_r18") == presets["cifar10_r18"].pretrain.encoder
    assert set(students.values()) == {encoder_of_depth(50)}
    assert {name: config.distill.temperature for name, config in presets.items()} == {
        "cifar10_r18": 1.0,
        "imagenet_r50_v1": 1.0,
        "imagenet_r50_v2": 1.0,
        "imagenet_r152_3x_sk_v2": 0.1,
    }
    crop_only = presets["imagenet_r50_v1"].finetune.augment
    assert presets["imagenet_r50_v1"].distill == presets["imagenet_r50_v2"].distill
    assert presets["imagenet_r50_v1"].distill.augment == crop_only


@pytest.mark.parametrize("name", PRESETS)
def test_preset_round_trips_through_its_yaml(name, tmp_path):
    preset, file = PRESETS[name](), tmp_path / "method.yaml"
    file.write_text(dump(preset))
    assert load(MethodConfig, defaults=MethodConfig().model_dump(mode="json"), path=str(file)) == preset


def test_preset_named_in_an_override_is_the_start_and_other_overrides_win():
    defaults = MethodConfig().model_dump(mode="json")
    config = load(MethodConfig, defaults=defaults, overrides=["preset=cifar10_r18", "pretrain.temperature=0.1"])
    expected = PRESETS["cifar10_r18"]()
    assert config.pretrain == expected.pretrain.model_copy(update={"temperature": 0.1})
    with pytest.raises(ConfigError, match=r"preset = .resnet.: must be one of laptop"):
        load(MethodConfig, defaults=defaults, overrides=["preset=resnet"])


def test_encoder_of_unknown_depth_is_refused():
    with pytest.raises(ValueError, match="depth 51: must be one of"):
        encoder_of_depth(51)
