"""Settings of network, optimiser and stages."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from trainer.config.augmentation import AugmentConfig
from trainer.config.base import Count, NonNegative, Positive, Probability, Seed, Settings


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
        None, description="3x3 stride 1, or stride 2 with a max-pool; null: small up to 32 px"
    )
    sk_ratio: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="selective kernels' reduction, with ResNet-D; 0.0625 in v2, 0 for plain blocks"
    )
    norm: Literal["batch", "local_batch", "layer", "group"] = Field(
        "batch",
        description="statistics over the global batch, over each replica's images with samples shuffled between "
        "replicas, or within each image: over all channels, or over groups of them",
    )

    @property
    def output_dim(self) -> int:
        """D, the dimensions of h."""
        expansion = 4 if self.block == "bottleneck" else 1
        return self.width * 2 ** (len(self.stage_blocks) - 1) * expansion

    @model_validator(mode="after")
    def _selective_kernels_have_a_bottleneck(self) -> "EncoderConfig":
        if self.sk_ratio and self.block != "bottleneck":
            raise ValueError(f"sk_ratio {self.sk_ratio} needs block bottleneck: only its 3x3 has a selective form")
        return self


class HeadConfig(Settings):
    """The projection head g, thrown away after pretraining."""

    kind: Literal["none", "linear", "nonlinear"] = Field("nonlinear", description="the form of g")
    layers: Annotated[int, Field(ge=2, le=3)] = Field(2, description="layers of a nonlinear head: 2 in v1, 3 in v2")
    output_dim: Count = Field(128, description="dimensions of z")

    @property
    def depth(self) -> int:
        """Number of dense layers."""
        return {"none": 0, "linear": 1, "nonlinear": self.layers}[self.kind]


class OptimizerConfig(Settings):
    """Optimiser, learning rate and decay of one training."""

    name: Literal["lars", "sgd", "adamw"] = Field("lars", description="LARS, SGD with Nesterov momentum, or AdamW")
    learning_rate: Positive = Field(description="peak, or what `scaling` makes the peak of")
    scaling: Literal["none", "linear", "sqrt"] = Field(
        "none", description="peak = learning_rate, learning_rate * B/256, or learning_rate * sqrt(B)"
    )
    weight_decay: NonNegative = Field(0.0, description="λ; batch norm and biases never decay")
    warmup_share: Probability = Field(0.0, description="share of the steps with a rising rate; 0.05 in v2")
    warmup_epochs: NonNegative | None = Field(
        None, description="epochs with a rising rate, however many there are, 10 in v1; null: warmup_share says"
    )
    decay: Literal["cosine", "constant"] = Field("cosine", description="the rate after the warm-up, to 0 or constant")

    def peak(self, batch_size: int) -> float:
        """The largest learning rate for `batch_size` images a step (arXiv 2002.05709, appendix B.1)."""
        return self.learning_rate * {"none": 1.0, "linear": batch_size / 256, "sqrt": batch_size**0.5}[self.scaling]

    def warmup_steps(self, total_steps: int, *, steps_per_epoch: int | None) -> int:
        """Steps with a rising rate, at most all of them.

        Raises:
            ValueError: they are counted in epochs, of which nobody says the length.
        """
        if self.warmup_epochs is None:
            return round(self.warmup_share * total_steps)
        if steps_per_epoch is None:
            raise ValueError(f"warmup_epochs {self.warmup_epochs}: give steps_per_epoch, or set it to null")
        return min(round(self.warmup_epochs * steps_per_epoch), total_steps)

    @model_validator(mode="after")
    def _one_warmup(self) -> "OptimizerConfig":
        if self.warmup_epochs is not None and self.warmup_share:
            raise ValueError(
                f"warmup_epochs {self.warmup_epochs} takes the place of warmup_share {self.warmup_share}: "
                "set warmup_share to 0, or warmup_epochs to null"
            )
        return self


class ComputeConfig(Settings):
    """What a training runs on, and in which numbers."""

    strategy: Literal["one_device", "mirrored", "multi_worker", "tpu"] = Field(
        "one_device", description="one device, all of this machine, all of TF_CONFIG's machines, or a TPU"
    )
    tpu: str = Field("local", description="name or address of the TPU, for strategy tpu")
    precision: Literal["float32", "mixed_bfloat16"] = Field(
        "float32", description="of the network's layers; weights, logits and loss are float32 always"
    )
    jit_compile: bool | None = Field(
        None, description="compile the step with XLA; null: on GPU and TPU, where it is faster, and not on CPU"
    )


class MemoryConfig(Settings):
    """Further negatives from a queue of a momentum encoder's embeddings (arXiv 2006.10029, section 2.1)."""

    queue_size: Annotated[int, Field(ge=0)] = Field(0, description="embeddings kept; 65536 in v2, 0 for no memory")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.999, description="EMA of the encoder that fills it")


class GradientCacheConfig(Settings):
    """The step of a large batch on a small device: two passes in chunks, memory grows with the chunk."""

    chunk_size: Count | None = Field(None, description="images at once, dividing the batch; null: the whole batch")
    batch_norm: Literal["exact", "per_chunk"] = Field(
        "exact",
        description="batch norm over the whole batch at the price of two more sweeps for each one before z, or "
        "over each chunk; with norm layer or group only the projection head has any",
    )


class DiagnosticsConfig(Settings):
    """What is watched while pretraining, in TensorBoard, in a CSV and in warnings."""

    every_steps: Annotated[int, Field(ge=0)] = Field(
        100, description="between two looks at h and z, each at the next step that is logged; 0 for none"
    )
    images: Annotated[int, Field(ge=4)] = Field(256, description="at most, whose two views are embedded for a look")


class PretrainConfig(Settings):
    """SimCLR's pretraining without labels."""

    encoder: EncoderConfig = EncoderConfig()
    head: HeadConfig = HeadConfig()
    augment: AugmentConfig = AugmentConfig()
    temperature: Positive = Field(0.2, description="τ of NT-Xent")
    batch_size: Annotated[int, Field(ge=2)] | None = Field(
        None, description="images a step over all replicas, two views of each; null: 256, or all if there are fewer"
    )
    epochs: Count = Field(30, description="passes over the unlabeled images")
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=3.0, weight_decay=1e-4, warmup_share=0.1)
    memory: MemoryConfig = MemoryConfig()
    gradient_cache: GradientCacheConfig = GradientCacheConfig()
    similarity_block_rows: Count | None = Field(
        None, description="rows of the similarity matrix held at once; null: all 2N"
    )
    compute: ComputeConfig = ComputeConfig()
    diagnostics: DiagnosticsConfig = DiagnosticsConfig()
    checkpoint_every_steps: Count = Field(100, description="steps between two checkpoints")
    kept_checkpoints: Count = Field(2, description="newest checkpoints that are kept")


_BETWEEN_CHECKPOINTS = "steps between two checkpoints, where `python -m trainer` makes them; the pipeline makes none"
_KEPT_CHECKPOINTS = "newest of these that are kept"
_CROP_ONLY = AugmentConfig(jitter_strength=0.0, grayscale_probability=0.0)


def _refuse_one_sided(augment: AugmentConfig) -> None:
    if augment.one_sided:
        raise ValueError("augment.one_sided true: only pretraining makes a second view to spare; set it to false")


class ClassifierConfig(Settings):
    """Training on labels, from the pretrained encoder or from scratch; crop and flip only, unless said otherwise."""

    augment: AugmentConfig = _CROP_ONLY
    batch_size: Count = Field(64, description="images a step, or all the labelled ones if there are fewer")
    steps: Count | None = Field(400, description="optimiser steps at most; null where only epochs end it")
    epochs: Count | None = Field(
        300, description="passes over the labelled images at most; null where only steps end it"
    )
    optimizer: OptimizerConfig = OptimizerConfig(name="adamw", learning_rate=1e-3)
    head_layer: Annotated[int, Field(ge=0, le=3)] = Field(
        0,
        description="layers of the projection head kept and tuned under the classifier; 0 is h, v2 uses 1",
    )
    compute: ComputeConfig = ComputeConfig()
    checkpoint_every_steps: Count = Field(100, description=_BETWEEN_CHECKPOINTS)
    kept_checkpoints: Count = Field(2, description=_KEPT_CHECKPOINTS)

    @model_validator(mode="after")
    def _one_view(self) -> "ClassifierConfig":
        _refuse_one_sided(self.augment)
        return self

    @model_validator(mode="after")
    def _some_length(self) -> "ClassifierConfig":
        if self.steps is None and self.epochs is None:
            raise ValueError(
                "steps and epochs are both null: give at least one of them, whichever is reached first ends it"
            )
        return self

    def total_steps(self, steps_per_epoch: int) -> int:
        """Optimiser steps of the whole training, where an epoch has so many."""
        by_epochs = self.epochs and self.epochs * steps_per_epoch
        return min(limit for limit in (self.steps, by_epochs) if limit)


class DistillConfig(Settings):
    """A student learns a teacher's predictions, on unlabeled images by default (arXiv 2006.10029, equations 2, 3)."""

    student: EncoderConfig = EncoderConfig()
    temperature: Positive = Field(0.1, description="τ of teacher and student; 1 for self-distillation")
    label_weight: Probability = Field(
        0.0, description="1−α: weight of the labels' cross entropy; only where labelled images are given"
    )
    augment: AugmentConfig = _CROP_ONLY
    batch_size: Count = Field(256, description="images a step, or all if there are fewer")
    epochs: Count = Field(40, description="passes over the images")
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=3.0, weight_decay=1e-4, warmup_share=0.1)
    compute: ComputeConfig = ComputeConfig()
    checkpoint_every_steps: Count = Field(100, description="steps between two checkpoints")
    kept_checkpoints: Count = Field(2, description="newest checkpoints that are kept")

    @model_validator(mode="after")
    def _one_view(self) -> "DistillConfig":
        _refuse_one_sided(self.augment)
        return self


class ProbeConfig(Settings):
    """Linear evaluation and kNN on the frozen encoder's h."""

    method: Literal["logistic", "ridge", "gradient"] = Field(
        "logistic",
        description="solved to its optimum, in closed form, or by SGD on augmented images as in the papers",
    )
    knn_k: Count = Field(20, description="neighbours that vote, at most the number of labelled images")
    knn_temperature: Positive = Field(0.07, description="τ of the votes exp(cosine/τ)")
    inverse_regularization: tuple[Positive, ...] = Field(
        (1e-4, 1e-3, 1e-2, 1e-1, 1.0),
        min_length=1,
        description="candidates for C (ridge: 1/λ); cross-validation on the labelled images chooses",
    )
    folds: Annotated[int, Field(ge=2)] = Field(4, description="of the cross-validation")
    gradient: ClassifierConfig = Field(
        ClassifierConfig(
            batch_size=4096,
            steps=None,
            epochs=90,
            optimizer=OptimizerConfig(name="sgd", learning_rate=0.1, scaling="linear"),
        ),
        description="training of the gradient probe",
    )


class StagesConfig(Settings):
    """The stages from pretraining to a fine-tuned network and its baseline."""

    pretrain: PretrainConfig = PretrainConfig()
    probe: ProbeConfig = ProbeConfig()
    finetune: ClassifierConfig = ClassifierConfig()
    supervised: ClassifierConfig = ClassifierConfig(
        steps=600, optimizer=OptimizerConfig(name="adamw", learning_rate=0.01, weight_decay=0.01)
    )
    seed: Seed = Field(0, description="of label subsets, weights, order and views")

    @model_validator(mode="after")
    def _kept_layers_are_there(self) -> "StagesConfig":
        if self.finetune.head_layer > self.pretrain.head.depth:
            raise ValueError(
                f"finetune.head_layer {self.finetune.head_layer}: the projection head has {self.pretrain.head.depth} "
                "layers; keep fewer, or set pretrain.head"
            )
        if self.supervised.head_layer:
            raise ValueError(
                f"supervised.head_layer {self.supervised.head_layer}: a network from scratch has no projection head; "
                "set it to 0"
            )
        return self


class MethodConfig(StagesConfig):
    """All stages of SimCLR: what the presets return, and what `python -m trainer` reads."""

    distill: DistillConfig = DistillConfig()
