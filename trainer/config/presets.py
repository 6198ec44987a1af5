"""The papers' settings, each a function that returns them."""

from collections.abc import Callable

from trainer.config.augmentation import AugmentConfig, CropConfig
from trainer.config.settings import (
    ClassifierConfig,
    DistillConfig,
    EncoderConfig,
    HeadConfig,
    MemoryConfig,
    MethodConfig,
    OptimizerConfig,
    PretrainConfig,
    ProbeConfig,
)

# Blocks of each stage by depth (arXiv 1512.03385, table 1; 200 is arXiv 1603.05027's).
STAGE_BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
_FIRST_BOTTLENECK_DEPTH = 50
_WIDTH = 64
_SK_RATIO = 0.0625  # arXiv 2006.10029, appendix
_IMAGENET_CROP = CropConfig(size_px=224, min_area=0.08, interpolation="bicubic")
_IMAGENET_VIEW = AugmentConfig(crop=_IMAGENET_CROP, jitter_strength=1.0, blur_probability=0.5)
_IMAGENET_CROP_ONLY = AugmentConfig(crop=_IMAGENET_CROP, jitter_strength=0.0, grayscale_probability=0.0)
_CROP_ONLY = AugmentConfig(crop=CropConfig(min_area=0.08), jitter_strength=0.0, grayscale_probability=0.0)
_PRETRAINING_V2 = OptimizerConfig(learning_rate=0.1, scaling="sqrt", weight_decay=1e-4, warmup_share=0.05)
_SELF_TEMPERATURE, _SMALLER_TEMPERATURE = 1.0, 0.1  # of a student like its teacher, and of a smaller one
_SMALL_FRACTION = 0.01


def encoder_of_depth(
    depth: int, *, width_multiplier: int = 1, sk_ratio: float = 0.0, cifar_stem: bool | None = None
) -> EncoderConfig:
    """The standard ResNet of a depth.

    Args:
        depth: 18, 34, 50, 101, 152 or 200.
        width_multiplier: of all channels; 1 … 4 in the papers.
        sk_ratio: of selective kernels, 0.0625 in v2; 0 for none. Depth 50 and more.
        cifar_stem: 3x3 stride 1 without max-pool; None: up to 32 px.

    Raises:
        ValueError: another depth, or selective kernels in basic blocks.
    """
    if depth not in STAGE_BLOCKS:
        raise ValueError(f"depth {depth}: must be one of {sorted(STAGE_BLOCKS)}")
    return EncoderConfig(
        stage_blocks=STAGE_BLOCKS[depth],
        width=_WIDTH * width_multiplier,
        block="bottleneck" if depth >= _FIRST_BOTTLENECK_DEPTH else "basic",
        stem=None if cifar_stem is None else "small" if cifar_stem else "imagenet",
        sk_ratio=sk_ratio,
    )


def finetuning_on(config: ClassifierConfig, fraction: float) -> ClassifierConfig:
    """Fine-tuning on a share of the labels, from the settings for 1% of them, which the presets have.

    In the papers it takes 60 epochs on 1% and 30 on more, and keeps no layer of the projection head with all labels
    (arXiv 2002.05709, appendix B.5; 2006.10029, section 3.1). Whatever the epochs are for 1%, they are halved.

    Args:
        config: for 1% of the labels.
        fraction: of the labels, in (0, 1].
    """
    is_more, is_all = fraction > _SMALL_FRACTION, fraction == 1.0
    epochs = config.epochs and max(config.epochs // 2, 1) if is_more else config.epochs
    return config.model_copy(update={"epochs": epochs, "head_layer": 0 if is_all else config.head_layer})


def laptop() -> MethodConfig:
    """A small network and few steps for two cores and some thousand small images: the defaults of every field."""
    return MethodConfig()


def imagenet_r50_v1() -> MethodConfig:
    """SimCLR with ResNet-50, 69.3% linear top-1 (arXiv 2002.05709, table 6; settings: appendices A and B).

    The paper distils nothing; for that the settings are the second paper's.
    """
    encoder = encoder_of_depth(50)
    return MethodConfig(
        pretrain=PretrainConfig(
            encoder=encoder,
            augment=_IMAGENET_VIEW.model_copy(update={"brightness": "additive"}),
            temperature=0.1,
            batch_size=4096,
            epochs=1000,
            optimizer=OptimizerConfig(learning_rate=0.3, scaling="linear", weight_decay=1e-6, warmup_epochs=10),
            checkpoint_every_steps=1000,
        ),
        probe=_linear_evaluation(),
        finetune=ClassifierConfig(
            augment=_IMAGENET_CROP_ONLY,
            batch_size=4096,
            steps=None,
            epochs=60,
            optimizer=OptimizerConfig(name="sgd", learning_rate=0.05, scaling="linear", decay="constant"),
        ),
        supervised=_supervised_imagenet(),
        distill=_distillation_imagenet(encoder),
    )


def imagenet_r50_v2() -> MethodConfig:
    """SimCLRv2 with ResNet-50: 71.7% linear top-1, 57.9% on 1% of the labels (arXiv 2006.10029, table 1)."""
    return _imagenet_v2(encoder_of_depth(50))


def imagenet_r152_3x_sk_v2() -> MethodConfig:
    """SimCLRv2's largest network: 79.8% linear, 74.9% on 1% of the labels (arXiv 2006.10029, table 1)."""
    return _imagenet_v2(encoder_of_depth(152, width_multiplier=3, sk_ratio=_SK_RATIO))


def cifar10_r18() -> MethodConfig:
    """CIFAR-10 with ResNet-18 at B 512, about 91% linear after 1000 epochs (arXiv 2002.05709, appendix B.9)."""
    encoder = encoder_of_depth(18, cifar_stem=True)
    pretraining = OptimizerConfig(learning_rate=1.0, scaling="linear", weight_decay=1e-6, warmup_epochs=10)
    return MethodConfig(
        pretrain=PretrainConfig(
            encoder=encoder,
            augment=AugmentConfig(crop=CropConfig(min_area=0.08)),
            temperature=0.5,
            batch_size=512,
            epochs=1000,
            optimizer=pretraining,
        ),
        probe=_linear_evaluation(batch_size=512, crop=_CROP_ONLY),
        finetune=ClassifierConfig(
            augment=_CROP_ONLY,
            batch_size=512,
            steps=None,
            epochs=60,
            optimizer=OptimizerConfig(name="sgd", learning_rate=0.05, scaling="linear", decay="constant"),
        ),
        supervised=ClassifierConfig(
            augment=_CROP_ONLY,
            batch_size=512,
            steps=None,
            epochs=200,
            optimizer=OptimizerConfig(name="sgd", learning_rate=0.1, scaling="linear", weight_decay=5e-4),
        ),
        distill=DistillConfig(
            student=encoder,
            temperature=_SELF_TEMPERATURE,
            augment=_CROP_ONLY,
            batch_size=512,
            epochs=400,
            optimizer=pretraining,
        ),
    )


def _imagenet_v2(encoder: EncoderConfig) -> MethodConfig:
    return MethodConfig(
        pretrain=PretrainConfig(
            encoder=encoder,
            head=HeadConfig(layers=3),
            augment=_IMAGENET_VIEW,
            temperature=0.1,
            batch_size=4096,
            epochs=800,
            optimizer=_PRETRAINING_V2,
            memory=MemoryConfig(queue_size=65536),
            checkpoint_every_steps=1000,
        ),
        probe=_linear_evaluation(),
        finetune=ClassifierConfig(
            augment=_IMAGENET_CROP_ONLY,
            batch_size=1024,
            steps=None,
            epochs=60,
            optimizer=OptimizerConfig(learning_rate=0.005, scaling="sqrt", decay="constant"),
            head_layer=1,
        ),
        supervised=_supervised_imagenet(),
        distill=_distillation_imagenet(encoder),
    )


def _distillation_imagenet(teacher: EncoderConfig) -> DistillConfig:
    """A ResNet-50 is taught, at pretraining's rate, decay and batch (arXiv 2006.10029, section 3.1)."""
    student = encoder_of_depth(50)
    return DistillConfig(
        student=student,
        temperature=_SELF_TEMPERATURE if student == teacher else _SMALLER_TEMPERATURE,
        augment=_IMAGENET_CROP_ONLY,
        batch_size=4096,
        epochs=400,
        optimizer=_PRETRAINING_V2,
    )


def _linear_evaluation(*, batch_size: int = 4096, crop: AugmentConfig = _IMAGENET_CROP_ONLY) -> ProbeConfig:
    """SGD with Nesterov momentum, 0.1·B/256, 90 epochs, no warm-up, no decay (arXiv 2002.05709, appendix B.6)."""
    optimizer = OptimizerConfig(name="sgd", learning_rate=0.1, scaling="linear", decay="constant")
    training = ClassifierConfig(augment=crop, batch_size=batch_size, steps=None, epochs=90, optimizer=optimizer)
    return ProbeConfig(method="gradient", gradient=training)


def _supervised_imagenet() -> ClassifierConfig:
    """The usual 90 epochs of Nesterov momentum from scratch, crop and flip."""
    return ClassifierConfig(
        augment=_IMAGENET_CROP_ONLY,
        batch_size=4096,
        steps=None,
        epochs=90,
        optimizer=OptimizerConfig(
            name="sgd", learning_rate=0.1, scaling="linear", weight_decay=1e-4, warmup_epochs=5
        ),
    )


PRESETS: dict[str, Callable[[], MethodConfig]] = {
    preset.__name__: preset
    for preset in (laptop, cifar10_r18, imagenet_r50_v1, imagenet_r50_v2, imagenet_r152_3x_sk_v2)
}
