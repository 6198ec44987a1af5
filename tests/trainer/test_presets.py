"""Each preset says what the papers' texts and tables say of it, field by field."""

import math

import pytest

from trainer.config import PRESETS, MethodConfig, encoder_of_depth
from trainer.config.presets import STAGE_BLOCKS

DOWNSTREAM = ("probe.gradient", "finetune", "supervised", "distill")
NO_FURTHER_OPS = {"rotate_probability": 0, "sobel_probability": 0, "noise_probability": 0, "cutout_probability": 0}


def of(section, **fields):
    return {f"{section}.{name}": value for name, value in fields.items()}


# The second paper changes nothing of these (2002.05709, sections 2 and 4.2, appendices A and B).
EVERYWHERE = {
    **of("pretrain.encoder", norm="batch"),
    **of("pretrain.head", kind="nonlinear", output_dim=128),
    **of("pretrain.augment", policy="simclr", one_sided=False, jitter_probability=0.8, grayscale_probability=0.2),
    **of("pretrain.augment", **NO_FURTHER_OPS, blur_max_sigma_px=2.0),
    **of("pretrain.augment.crop", probability=1, min_area=0.08, max_area=1, max_aspect=4 / 3, flip_probability=0.5),
    **of("pretrain.optimizer", name="lars", decay="cosine"),
    **of("probe", method="gradient"),
    **of("probe.gradient", epochs=90, steps=None, head_layer=0),
    **of("probe.gradient.optimizer", name="sgd", learning_rate=0.1, scaling="linear"),
    **of("probe.gradient.optimizer", warmup_share=0, weight_decay=0, decay="constant"),
    **of("finetune", epochs=60, steps=None),
    **of("finetune.optimizer", warmup_share=0, weight_decay=0, decay="constant"),
    **of("supervised", head_layer=0),
    **of("distill", epochs=400, label_weight=0),
    **of("distill.optimizer", name="lars", decay="cosine"),
}
IMAGENET = EVERYWHERE | {
    **of("pretrain", temperature=0.1, batch_size=4096),
    **of("pretrain.encoder", stem=None, block="bottleneck"),
    **of("pretrain.augment", jitter_strength=1, blur_probability=0.5),
    **of("pretrain.augment.crop", size_px=224, interpolation="bicubic"),
    **of("probe.gradient", batch_size=4096),
    **of("distill", batch_size=4096),
    **of("distill.optimizer", learning_rate=0.1, scaling="sqrt", weight_decay=1e-4, warmup_share=0.05),
}
V1 = {
    **of("pretrain.head", layers=2),
    **of("pretrain.memory", queue_size=0),
    **of("finetune", head_layer=0),
    **of("finetune.optimizer", name="sgd", learning_rate=0.05, scaling="linear"),
    **of("pretrain", epochs=1000),
    **of("pretrain.optimizer", scaling="linear", weight_decay=1e-6, warmup_share=0, warmup_epochs=10),
}
V2 = IMAGENET | {
    **of("pretrain", epochs=800),
    **of("pretrain.augment", brightness="multiplicative"),
    **of("pretrain.head", layers=3),
    **of("pretrain.memory", queue_size=65536, momentum=0.999),
    **of("pretrain.optimizer", learning_rate=0.1, scaling="sqrt", weight_decay=1e-4),
    **of("pretrain.optimizer", warmup_share=0.05, warmup_epochs=None),
    **of("finetune", batch_size=1024, head_layer=1),
    **of("finetune.optimizer", name="lars", learning_rate=0.005, scaling="sqrt"),
}
EXPECTED = {
    "imagenet_r50_v1": IMAGENET
    | V1
    | {
        **of("pretrain.augment", brightness="additive"),
        **of("pretrain.encoder", stage_blocks=[3, 4, 6, 3], width=64, sk_ratio=0),
        **of("pretrain.optimizer", learning_rate=0.3),
        **of("finetune", batch_size=4096),
    },
    "imagenet_r50_v2": V2
    | {
        **of("pretrain.encoder", stage_blocks=[3, 4, 6, 3], width=64, sk_ratio=0),
        **of("distill", temperature=1),
    },
    "imagenet_r152_3x_sk_v2": V2
    | {
        **of("pretrain.encoder", stage_blocks=[3, 8, 36, 3], width=192, sk_ratio=0.0625),
        **of("distill", temperature=0.1),
        **of("distill.student", stage_blocks=[3, 4, 6, 3], width=64, block="bottleneck", sk_ratio=0),
    },
    "cifar10_r18": EVERYWHERE
    | V1
    | {
        **of("pretrain", temperature=0.5, batch_size=512),
        **of("pretrain.encoder", stage_blocks=[2, 2, 2, 2], width=64, block="basic", stem="small", sk_ratio=0),
        **of("pretrain.augment", jitter_strength=0.5, blur_probability=0),
        **of("pretrain.augment.crop", size_px=None),
        **of("pretrain.optimizer", learning_rate=1.0),
        **of("probe.gradient", batch_size=512),
        **of("distill", batch_size=512, temperature=1),
    },
}


def field(settings, name):
    for part in name.split("."):
        settings = settings[part]
    return settings


@pytest.mark.parametrize("name", EXPECTED)
def test_preset_has_the_values_of_the_papers(name):
    settings = PRESETS[name]().model_dump(mode="json")
    assert {key: field(settings, key) for key in EXPECTED[name]} == EXPECTED[name]


@pytest.mark.parametrize("name", EXPECTED)
def test_preset_trains_on_labels_and_distils_on_crops_and_flips_alone(name):
    settings = PRESETS[name]().model_dump(mode="json")
    off = {"jitter_strength": 0, "grayscale_probability": 0, "blur_probability": 0, **NO_FURTHER_OPS}
    for section in DOWNSTREAM:
        view = field(settings, section)["augment"]
        assert {op: view[op] for op in off} == off and view["policy"] == "simclr", section
        assert view["crop"] == field(settings, "pretrain.augment.crop"), section


@pytest.mark.parametrize("name", EXPECTED)
def test_preset_learns_at_the_papers_peak_rates(name):
    config = PRESETS[name]()
    trained = {"pretrain": config.pretrain, "probe": config.probe.gradient, "finetune": config.finetune}
    peaks = {stage: of_stage.optimizer.peak(of_stage.batch_size) for stage, of_stage in trained.items()}
    assert peaks == pytest.approx(
        {
            "imagenet_r50_v1": {"pretrain": 4.8, "probe": 1.6, "finetune": 0.8},
            "imagenet_r50_v2": {"pretrain": 6.4, "probe": 1.6, "finetune": 0.16},
            "imagenet_r152_3x_sk_v2": {"pretrain": 6.4, "probe": 1.6, "finetune": 0.16},
            "cifar10_r18": {"pretrain": 2.0, "probe": 0.2, "finetune": 0.1},
        }[name]
    )


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("epochs", [100, 800, 1000])
def test_preset_warms_up_for_10_epochs_in_v1_and_a_twentieth_of_them_in_v2(name, epochs):
    optimizer = PRESETS[name]().pretrain.optimizer
    warmup_steps = optimizer.warmup_steps(300 * epochs, steps_per_epoch=300)
    assert warmup_steps == 300 * (epochs / 20 if name.endswith("v2") else 10)


def test_every_preset_is_held_against_the_papers_but_the_laptops():
    assert EXPECTED.keys() | {"laptop"} == PRESETS.keys()
    assert PRESETS["laptop"]() == MethodConfig()


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152, 200])
def test_blocks_of_a_depth_have_as_many_layers_with_weights(depth):
    encoder = encoder_of_depth(depth)
    in_blocks = {"basic": 2, "bottleneck": 3}[encoder.block]
    assert 2 + in_blocks * sum(encoder.stage_blocks) == depth  # the stem and the classifier are counted too
    assert (encoder.block == "bottleneck") == (depth >= 50) and encoder.width == 64


def test_depths_that_encoders_are_built_of_are_those_of_the_papers():
    assert sorted(STAGE_BLOCKS) == [18, 34, 50, 101, 152, 200]
    widths = [encoder_of_depth(50, width_multiplier=width).width for width in (1, 2, 3, 4)]
    assert widths == [64, 128, 192, 256] and math.log2(encoder_of_depth(50, width_multiplier=4).output_dim) == 13
