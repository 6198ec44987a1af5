"""What counts as drift, and what happens then."""

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from trainer.config import Count, Settings

DRIFT_FILE = "drift.json"
Policy = Literal["ignore", "warn", "stop"]


class DriftConfig(Settings):
    """Whether new images are like the window's."""

    false_alarm_rate: Annotated[float, Field(gt=0, le=0.5)] = Field(
        0.01,
        description="chance, at most, that images drawn as the window's raise an alarm, if the champion was trained "
        "on neither; half for the embeddings and half for all image statistics together",
    )
    sample: Annotated[int, Field(ge=10)] = Field(
        500, description="images of each side that are compared, at most; chosen by a hash of their contents"
    )
    permutations: Count = Field(1_999, description="of the test on the embeddings")
    embeddings: Policy = Field("warn", description="what a shift in the champion's embeddings does to the run")
    statistics: Policy = Field("warn", description="what a shift of size, brightness or colour does")
    new_classes: Policy = Field("warn", description="what a label does that the champion does not know")
    shown: Annotated[int, Field(ge=0, le=100)] = Field(12, description="most unusual images that are kept to be seen")

    @model_validator(mode="after")
    def _an_alarm_is_possible(self) -> "DriftConfig":
        least = math.ceil(round(2 / self.false_alarm_rate, 6)) - 1
        if self.permutations < least:
            raise ValueError(
                f"permutations = {self.permutations}: no p-value would be small enough for false_alarm_rate = "
                f"{self.false_alarm_rate}; it needs {least} or more"
            )
        return self
