"""Every setting of the method, and the papers' settings as functions that return them."""

from trainer.config.augmentation import AugmentConfig, CropConfig
from trainer.config.base import Count, NonNegative, Positive, Probability, Seed, Settings
from trainer.config.loading import ConfigError, dump, load
from trainer.config.presets import (
    PRESETS,
    cifar10_r18,
    encoder_of_depth,
    imagenet_r50_v1,
    imagenet_r50_v2,
    imagenet_r152_3x_sk_v2,
    laptop,
)
from trainer.config.settings import (
    ClassifierConfig,
    ComputeConfig,
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
    StagesConfig,
)

__all__ = [
    "PRESETS",
    "AugmentConfig",
    "ClassifierConfig",
    "ComputeConfig",
    "ConfigError",
    "Count",
    "CropConfig",
    "DiagnosticsConfig",
    "DistillConfig",
    "EncoderConfig",
    "GradientCacheConfig",
    "HeadConfig",
    "MemoryConfig",
    "MethodConfig",
    "NonNegative",
    "OptimizerConfig",
    "Positive",
    "PretrainConfig",
    "Probability",
    "ProbeConfig",
    "Seed",
    "Settings",
    "StagesConfig",
    "cifar10_r18",
    "dump",
    "encoder_of_depth",
    "imagenet_r50_v1",
    "imagenet_r50_v2",
    "imagenet_r152_3x_sk_v2",
    "laptop",
    "load",
]
