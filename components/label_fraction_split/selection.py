"""Label fractions as a component takes them, and the names of their splits."""

import json
from decimal import Decimal


def parse_fractions(text: str) -> list[float]:
    """Reads a list of label fractions, smallest first.

    Args:
      text: JSON list of different numbers in (0, 1], such as "[0.01, 0.1]".

    Returns:
      The fractions, ascending.

    Raises:
      ValueError: if the text is anything else.
    """
    rule = 'label fractions are a JSON list of different numbers over 0 and up to 1, such as "[0.01, 0.1]"'
    try:
        fractions = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{rule}; received {text!r}") from error
    if not isinstance(fractions, list) or not fractions:
        raise ValueError(f"{rule}; received {text!r}")
    for fraction in fractions:
        if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 < fraction <= 1:
            raise ValueError(f"{rule}; received {fraction!r} in {text!r}")
    if len(set(fractions)) < len(fractions):
        raise ValueError(f"{rule}; received a repetition: {text!r}")
    return sorted(float(fraction) for fraction in fractions)


def fraction_split_name(fraction: float) -> str:
    """Names the split that holds a fraction: 0.01 → "fraction-1pct", 0.005 → "fraction-0_5pct", without a point."""
    percent = (Decimal(str(float(fraction))) * 100).normalize()
    return f"fraction-{percent:f}pct".replace(".", "_")
