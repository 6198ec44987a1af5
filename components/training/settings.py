"""What of the trainings is the pipeline's own: what depends on the runs before it, and which of them there are."""

from typing import Annotated

from pydantic import Field

from trainer.config import Count, DistillConfig, Positive, Settings


class WarmStartConfig(Settings):
    """Whether pretraining goes on from what the champion was pretrained to."""

    enabled: bool = Field(False, description="start from the champion's pretrained encoder and head, if it has them")
    epochs: Count | None = Field(None, description="passes of a warm start; null: those of `pretrain`")
    learning_rate: Positive | None = Field(None, description="rate of a warm start; null: that of `pretrain`")
    scratch_every: Annotated[int, Field(ge=0)] = Field(
        8, description="of so many runs one starts from scratch, whatever the champion; 0: none for this reason"
    )


class DistillationConfig(DistillConfig):
    """Whether each fine-tuned network teaches another on the unlabeled images, and how (SimCLRv2's third step).

    Without a word about the student it is as its teacher, and τ is the presets' for that.
    """

    enabled: bool = Field(
        False,
        description="distil what was fine-tuned on each fraction; of the largest fraction the student, not its "
        "teacher, is evaluated and pushed",
    )
    temperature: Positive = Field(
        1.0, description="τ of teacher and student; 0.1 in presets whose student is smaller"
    )
