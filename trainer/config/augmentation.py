"""Settings of the random views."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from trainer.config.base import Count, Probability, Settings

# What turns each op of the SimCLR policy off at 0.
_SWITCHES = (
    "jitter_strength",
    "grayscale_probability",
    "blur_probability",
    "rotate_probability",
    "sobel_probability",
    "noise_probability",
    "cutout_probability",
)


class CropConfig(Settings):
    """Random resized crop and flip."""

    probability: Probability = Field(
        1.0, description="share of views cropped at random; others are the middle square"
    )
    size_px: Count | None = Field(None, description="side of a view; null: the short side of the stored images")
    min_area: Annotated[float, Field(gt=0, le=1)] = Field(
        0.2, description="smallest share of the area; 0.08 on ImageNet"
    )
    max_area: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="largest share of the area")
    max_aspect: Annotated[float, Field(ge=1)] = Field(4 / 3, description="aspect is log-uniform in [1/a, a]")
    interpolation: Literal["bilinear", "bicubic"] = Field("bilinear", description="of the resize, antialiased")
    flip_probability: Probability = Field(0.5, description="share of views mirrored left to right")

    @model_validator(mode="after")
    def _areas_are_ordered(self) -> "CropConfig":
        if self.min_area > self.max_area:
            raise ValueError(f"min_area {self.min_area} must not exceed max_area {self.max_area}")
        return self


class AugmentConfig(Settings):
    """One random view (arXiv 2002.05709, appendix A), with the further ops of the paper's figures 4 and 5."""

    crop: CropConfig = CropConfig()
    policy: Literal["simclr", "autoaugment"] = Field(
        "simclr", description="the ops below, or in their place AutoAugment's learned policy, the paper's comparison"
    )
    brightness: Literal["multiplicative", "additive"] = Field(
        "multiplicative", description="how brightness is jittered: as in v2, or as in v1"
    )
    jitter_strength: Annotated[float, Field(ge=0, le=1.25)] = Field(
        0.5, description="s: brightness, contrast, saturation ±0.8s, hue ±0.2s; 1 on ImageNet, 0.5 on CIFAR"
    )
    jitter_probability: Probability = Field(0.8, description="share of views whose colour is jittered")
    grayscale_probability: Probability = Field(0.2, description="share of views turned gray")
    blur_probability: Probability = Field(0.0, description="share of views blurred; 0.5 on ImageNet, 0 on CIFAR")
    blur_max_sigma_px: Annotated[float, Field(ge=0.1)] = Field(
        2.0, description="σ of the blur is uniform from 0.1 px"
    )
    rotate_probability: Probability = Field(0.0, description="share of views turned by 90, 180 or 270 degrees")
    sobel_probability: Probability = Field(0.0, description="share of views reduced to their edges")
    noise_probability: Probability = Field(0.0, description="share of views under Gaussian noise")
    noise_max_sigma: Annotated[float, Field(ge=0, le=1)] = Field(
        0.2, description="σ of the noise is uniform from 0; pixels are in [0, 1]"
    )
    cutout_probability: Probability = Field(0.0, description="share of views that lose a square")
    cutout_side: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="side of the square, as a share of the view's side"
    )
    one_sided: bool = Field(
        False, description="the second view is cropped and flipped only, as in the paper's ablation of compositions"
    )

    @model_validator(mode="after")
    def _policy_stands_alone(self) -> "AugmentConfig":
        ignored = [f"{switch} {getattr(self, switch)}" for switch in _SWITCHES if getattr(self, switch)]
        if self.policy == "autoaugment" and ignored:
            raise ValueError(
                f"policy autoaugment takes the place of {', '.join(ignored)}: set each to 0, or policy to simclr"
            )
        return self
