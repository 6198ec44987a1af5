"""What every setting is made of: typed, frozen, strict. An unknown or impossible setting cannot be built."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """Base of all settings: immutable, refuses unknown fields and silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def spelt(pattern: str, words: str) -> AfterValidator:
    """Refuses a string that does not have a form, and says the form in words rather than as a pattern.

    Args:
        pattern: that the whole string has to match.
        words: what such a string is, after "must be", with an example.
    """
    form = re.compile(pattern, re.ASCII)

    def check(value: str) -> str:
        if not form.fullmatch(value):
            raise ValueError(f"must be {words}")
        return value

    return AfterValidator(check)


Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
