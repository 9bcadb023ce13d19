"""Relative times in a probe's parameters: ``now-1h``, ``today-7d``."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from django.utils import timezone

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_STEP = re.compile(r"([+-])\s*(\d{1,9})\s*([smhdw])", re.IGNORECASE)
_TIME = re.compile(rf"(now|today)((?:\s*{_STEP.pattern})*)", re.IGNORECASE)


def parse_relative(text: str, now: datetime) -> datetime | None:
    """Parse a relative time such as ``now-90m``; None if the text is something else.

    ``today`` is the last midnight in the site's time zone; days are calendar days there.
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
                local += step  # in local time
            else:
                local = timezone.localtime(local.astimezone(UTC) + step)
        return local
    except OverflowError:
        return None
