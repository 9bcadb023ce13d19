"""Times relative to now in a probe's parameters: ``now-1h``, ``today-7d``."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from django.utils import timezone

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_STEP = re.compile(r"([+-])\s*(\d{1,9})\s*([smhdw])", re.IGNORECASE)
_TIME = re.compile(rf"(now|today)((?:\s*{_STEP.pattern})*)", re.IGNORECASE)


def parse_relative(text: str, now: datetime) -> datetime | None:
    """The time that a text such as ``now-90m`` means; None if it is none.

    ``today`` is the last midnight in the site's zone; days are days of the calendar there.
    """
    match = _TIME.fullmatch(text.strip())
    if match is None:
        return None
    local = timezone.localtime(now)
    if match[1].lower() == "today":
        local = local.replace(hour=0, minute=0, second=0, microsecond=0)
    try:
        for sign, number, unit in _STEP.findall(match[2]):
            step = timedelta(**{_UNITS[unit.lower()]: int(number)})
            step = step if sign == "+" else -step
            if unit.lower() in "dw":
                local += step  # on the wall clock
            else:
                local = timezone.localtime(local.astimezone(UTC) + step)
        return local
    except OverflowError:
        return None
