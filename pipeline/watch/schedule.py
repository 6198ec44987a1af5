"""Times by a cron expression, in a time zone."""

import datetime
import zoneinfo

from cronsim import CronSim, CronSimError


class Schedule:
    """As Debian's cron reads it: 0 and 7 are Sunday, and no time is left out or doubled when the clocks change."""

    def __init__(self, cron: str, timezone: str = "UTC") -> None:
        """Checks both.

        Args:
            cron: five fields: minute, hour, day of the month, month, day of the week.
            timezone: by its IANA name.

        Raises:
            ValueError: one of them is none, or the time never comes.
        """
        try:
            self._zone = zoneinfo.ZoneInfo(timezone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"timezone = {timezone!r}: there is none of that name, such as Europe/Berlin") from error
        self._cron = cron
        self.after(datetime.datetime.now(datetime.timezone.utc))

    def after(self, moment: datetime.datetime) -> datetime.datetime:
        """The first time after a moment."""
        if len(self._cron.split()) != 5:
            raise ValueError(f"cron = {self._cron!r}: must have five fields, such as '0 3 * * 1'")
        try:
            return next(CronSim(self._cron, moment.astimezone(self._zone)))
        except CronSimError as error:
            raise ValueError(f"cron = {self._cron!r}: {error}; five fields, such as '0 3 * * 1'") from error
        except StopIteration:
            raise ValueError(f"cron = {self._cron!r}: that time never comes") from None
