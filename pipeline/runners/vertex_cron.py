"""The time of a schedule on Vertex AI; apart from what makes one, which takes seconds to load."""

import re

from pipeline.watch.schedule import Schedule
from trainer.config import ConfigError

_CRON = re.compile(r"[\d*/,A-Za-z-]+(?: [\d*/,A-Za-z-]+){4}")


def timed(cron: str, timezone: str) -> str:
    """Cron and time zone as Vertex AI takes them.

    Args:
        cron: five fields.
        timezone: IANA name.

    Raises:
        ConfigError: either is none, or the time never comes.
    """
    fields = " ".join(cron.split())
    if not _CRON.fullmatch(fields):
        raise ConfigError(
            f"cron = {cron!r}: must be five fields, minute hour day month weekday, such as '0 3 * * 1', Mondays at 3"
        )
    try:
        Schedule(fields, timezone)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return f"TZ={timezone} {fields}"
