"""How a source that grows is retrained on."""

from typing import Annotated

from pydantic import Field

from trainer.config import Count, NonNegative, Positive, Settings

# In SpanIngest's summary.
SPANS_FILE = "spans.json"


class RetrainConfig(Settings):
    """What is kept of a source that grows, what of it is pretrained on, and what is too little."""

    store: str | None = Field(
        None,
        description="folder of the spans that `data.unlabeled` is ingested into, local or gs://; null: there are no "
        "spans, and each run reads all of `data.unlabeled`",
    )
    window_spans: Count | None = Field(
        None,
        description="how many of the newest spans are pretrained on; those without images do not count, and all that "
        "came since the last completed run count as one; null: all",
    )
    half_life_spans: Positive | None = Field(
        None,
        description="by how many spans, counted likewise, one is older than another of which twice the share is "
        "pretrained on; null: of all spans all images",
    )
    min_new_images: Annotated[int, Field(ge=0)] = Field(
        1, description="new images since the last completed run below which a run waits for more; 0: it never waits"
    )
    settle_s: NonNegative = Field(
        2.0, description="a local file written less than so many seconds ago is looked at again after that time"
    )
    near_duplicate_bits: Annotated[int, Field(ge=0, le=7)] | None = Field(
        3,
        description="images whose perceptual hashes of 64 bits differ by at most so many are near duplicates, which "
        "are counted and reported; null: they are not looked for",
    )
