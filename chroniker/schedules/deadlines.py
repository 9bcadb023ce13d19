"""Deadlines: until when the run of a slot should have succeeded. Pure functions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from chroniker.exceptions import ScheduleError

from .base import Schedule

_TIME = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])", re.ASCII)
_ACCEPTED = (
    "Accepted: a time of day such as 06:00, or a time after the slot such as 90m, 45s or 1d12h."
)


@dataclass(frozen=True, slots=True)
class FinishBy:
    """A deadline: a time of day, or a period after the slot."""

    schedule: Schedule
    """Its first slot after the job's slot is the deadline."""

    def after(self, slot: datetime) -> datetime | None:
        """Return the deadline of ``slot``, UTC; None after the year 9990."""
        return self.schedule.next(slot)


@lru_cache(maxsize=4096)
def parse_finish_by(text: str, zone: str) -> FinishBy:
    """Parse ``06:00``, in the time zone ``zone``, or ``90m``.

    On the day of a clock change, a time that is skipped is the first moment after it, and one that
    is repeated is the first of the two, like the slots of a job. Raises ScheduleError.
    """
    # Imported here, because most ticks need neither.
    from .cron import parse_cron
    from .interval import parse_interval

    body = text.strip()
    if time := _TIME.fullmatch(body):
        hour, minute = map(int, time.groups())
        return FinishBy(parse_cron(f"{minute} {hour} * * *", ZoneInfo(zone), ""))
    try:
        interval = parse_interval(body, ZoneInfo("UTC"))
    except ScheduleError:
        interval = None
    if interval is None or body.startswith("@") or interval.period > timedelta(days=366):
        msg = f"“{text}” is not a deadline. {_ACCEPTED}"
        raise ScheduleError(msg, field="finish_by")
    return FinishBy(interval)
