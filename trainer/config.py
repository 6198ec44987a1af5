"""Every setting of the method: typed, frozen, strict. An unknown or impossible setting cannot be built."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Settings(BaseModel):
    """Base of all settings: immutable, refuses unknown fields and silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]


class EncoderConfig(Settings):
    """The ResNet whose global average pool is the representation h."""

    stage_blocks: tuple[Count, ...] = Field(
        (1, 1, 1, 1), min_length=1, max_length=4, description="residual blocks of each stage"
    )
    width: Count = Field(16, description="channels of the first stage; each further stage doubles them")
    block: Literal["basic", "bottleneck"] = Field(
        "basic", description="two 3x3 convolutions, or 1x1, 3x3, 1x1 with four times the output channels"
    )
    stem: Literal["small", "imagenet"] | None = Field(
        None, description="3x3 stride 1, or 7x7 stride 2 with a max-pool; null: small up to 32 px"
    )


class CropConfig(Settings):
    """Random resized crop and flip."""

    size_px: Count | None = Field(None, description="side of a view; null: the short side of the stored images")
    min_area: Annotated[float, Field(gt=0, le=1)] = Field(
        0.2, description="smallest share of the area; 0.08 on ImageNet"
    )
    max_area: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="largest share of the area")
    max_aspect: Annotated[float, Field(ge=1)] = Field(4 / 3, description="aspect is log-uniform in [1/a, a]")

    @model_validator(mode="after")
    def _areas_are_ordered(self) -> "CropConfig":
        if self.min_area > self.max_area:
            raise ValueError(f"min_area {self.min_area} must not exceed max_area {self.max_area}")
        return self


class AugmentConfig(Settings):
    """One random view (arXiv 2002.05709, appendix A)."""

    crop: CropConfig = CropConfig()
    jitter_strength: Annotated[float, Field(ge=0, le=1.25)] = Field(
        0.5, description="s: brightness, contrast, saturation ±0.8s, hue ±0.2s; 1 on ImageNet, 0.5 on CIFAR"
    )
    jitter_probability: Probability = Field(0.8, description="share of views whose colour is jittered")
    grayscale_probability: Probability = Field(0.2, description="share of views turned gray")
    blur_probability: Probability = Field(0.0, description="share of views blurred; 0.5 on ImageNet, 0 on CIFAR")


class HeadConfig(Settings):
    """The projection head g, thrown away after pretraining."""

    kind: Literal["none", "linear", "nonlinear"] = Field("nonlinear", description="the form of g")
    layers: Annotated[int, Field(ge=2, le=3)] = Field(2, description="layers of a nonlinear head: 2 in v1, 3 in v2")
    output_dim: Count = Field(128, description="dimensions of z")


class OptimizerConfig(Settings):
    """Optimiser, learning rate and decay of one training."""

    name: Literal["lars", "sgd", "adamw"] = Field("lars", description="LARS, SGD with Nesterov momentum, or AdamW")
    learning_rate: Positive = Field(description="peak, for `batch_size` images a step")
    weight_decay: NonNegative = Field(0.0, description="λ; batch norm and biases never decay")
    warmup_share: Probability = Field(0.0, description="share of the steps with a rising rate; then a cosine to 0")


class PretrainConfig(Settings):
    """SimCLR's pretraining without labels."""

    encoder: EncoderConfig = EncoderConfig()
    head: HeadConfig = HeadConfig()
    augment: AugmentConfig = AugmentConfig()
    temperature: Positive = Field(0.2, description="τ of NT-Xent")
    batch_size: Annotated[int, Field(ge=2)] | None = Field(
        None, description="images a step, two views of each; null: 256, or all if there are fewer"
    )
    epochs: Count = Field(40, description="passes over the unlabeled images")
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=3.0, weight_decay=1e-4, warmup_share=0.1)
    checkpoint_every_steps: Count = Field(100, description="steps between two checkpoints")


class ClassifierConfig(Settings):
    """Training on labels, from the pretrained encoder or from scratch; crop and flip only."""

    crop: CropConfig = CropConfig()
    batch_size: Count = Field(64, description="images a step, or all the labelled ones if there are fewer")
    steps: Count = Field(400, description="optimiser steps")
    optimizer: OptimizerConfig = OptimizerConfig(name="adamw", learning_rate=1e-3)


class ProbeConfig(Settings):
    """Linear evaluation and kNN on the frozen encoder's h."""

    knn_k: Count = Field(20, description="neighbours that vote, at most the number of labelled images")
    knn_temperature: Positive = Field(0.07, description="τ of the votes exp(cosine/τ)")
    inverse_regularization: tuple[Positive, ...] = Field(
        (1e-4, 1e-3, 1e-2, 1e-1, 1.0),
        min_length=1,
        description="candidates for C of the logistic regression; cross-validation on the labelled images chooses",
    )
    folds: Annotated[int, Field(ge=2)] = Field(4, description="of the cross-validation")
