"""The maintenance windows of the calendar, with those of a series that have no row yet."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Q

from chroniker.exceptions import ScheduleError
from chroniker.models import Maintenance
from chroniker.schedules import parse

_MAX_WINDOWS = 50
_MAX_REPEATS = 200
_HOUR = timedelta(hours=1)

Times = tuple[datetime, datetime]
"""A start and an end."""


@dataclass(frozen=True, slots=True)
class CalendarWindow:
    """A window and its repetitions within the calendar."""

    window: Maintenance
    times: list[Times]
    """Never empty; the first is the window's own, or the next one of its series."""

    @property
    def starts_at(self) -> datetime:
        """When it starts first."""
        return self.times[0][0]

    @property
    def ends_at(self) -> datetime:
        """When that ends."""
        return self.times[0][1]

    @property
    def repeats(self) -> int:
        """How often it is repeated within the calendar."""
        return len(self.times) - 1


def load_windows(now: datetime, end: datetime) -> list[CalendarWindow]:
    """Read the windows between ``now`` and ``end``; two queries."""
    rows = (
        Maintenance.objects.filter(starts_at__lt=end)
        .filter(Q(ends_at__gt=now) | Q(recurrence__gt=""))
        .prefetch_related("entries__job")
        .order_by("starts_at")
    )
    found = [CalendarWindow(row, _times(row, now, end)) for row in rows[:_MAX_WINDOWS]]
    return sorted((one for one in found if one.times), key=lambda one: one.starts_at)


def _times(window: Maintenance, now: datetime, end: datetime) -> list[Times]:
    length = window.ends_at - window.starts_at
    times = [(window.starts_at, window.ends_at)] if window.ends_at > now else []
    if not window.recurrence:
        return times
    try:
        schedule = parse(window.recurrence, zone=window.timezone)
        start: datetime | None = max(window.starts_at, now - length)
        while start is not None and len(times) < _MAX_REPEATS:
            start = schedule.next(start)
            if start is None or start >= end:
                break
            times.append((start, start + length))
    except ScheduleError:  # a tick logs it
        return times
    return times


def covered_hours(windows: Iterable[CalendarWindow], begin: datetime, hours: int) -> set[int]:
    """The hours from ``begin`` on, by number, of which some part is in a window."""
    covered: set[int] = set()
    for window in windows:
        for start, end in window.times:
            first = max(0, math.floor((start - begin) / _HOUR))
            covered.update(range(first, min(hours, math.ceil((end - begin) / _HOUR))))
    return covered
