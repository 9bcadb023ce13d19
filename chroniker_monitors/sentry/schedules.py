"""Chroniker's schedules in the format of Sentry."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentry_sdk._types import MonitorConfigSchedule, MonitorConfigScheduleUnit

_UNITS: tuple[tuple[MonitorConfigScheduleUnit, int], ...] = (
    ("week", 604800),
    ("day", 86400),
    ("hour", 3600),
    ("minute", 60),
)
_ITEM = r"(?:\*|([0-9]+)(?:-([0-9]+))?)(?:/[0-9]+)?"


@lru_cache(maxsize=1024)
def sentry_schedule(text: str, zone: str, name: str) -> MonitorConfigSchedule | None:
    """Convert a schedule, or return None if Sentry cannot express it.

    Sentry supports cron with five fields of plain numbers, and intervals of whole minutes.
    """
    from chroniker.exceptions import ScheduleError
    from chroniker.schedules import parse

    try:
        schedule = parse(text, zone=zone, name=name)
    except ScheduleError:
        return None
    # parse() has already imported the module of the kind; the others stay unimported.
    if schedule.kind == "interval":
        from chroniker.schedules.interval import Interval

        assert isinstance(schedule, Interval)
        return _interval(int(schedule.period.total_seconds()))
    if schedule.kind == "cron":
        from chroniker.schedules.cron import Cron

        assert isinstance(schedule, Cron)
        return _crontab(schedule.fields)
    return None


def _interval(seconds: int) -> MonitorConfigSchedule | None:
    for unit, length in _UNITS:
        if seconds % length == 0:
            return {"type": "interval", "value": seconds // length, "unit": unit}
    return None


def _crontab(fields: Iterable[str]) -> MonitorConfigSchedule | None:
    """Convert resolved fields. ``L``, ``W`` and ``#`` mean something else in Sentry."""
    fields = tuple("*" if field == "?" else field for field in fields)
    if fields[5:] not in ((), ("0",), ("0", "*")):
        return None
    for item in (item for field in fields[:5] for item in field.split(",")):
        found = re.fullmatch(_ITEM, item)
        if found is None or (found[2] is not None and int(found[1]) > int(found[2])):
            return None
    return {"type": "crontab", "value": " ".join(fields[:5])}
