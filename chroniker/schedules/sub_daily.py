"""Recurrences every few hours, minutes or seconds, on some days and at some times."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from calendar import isleap, monthrange
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from .local_time import DAY, to_local_seconds

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from .recurrence_parser import RecurrenceSpec

UNITS = {"SECONDLY": 1, "MINUTELY": 60, "HOURLY": 3600}
_EPOCH = date(1970, 1, 1).toordinal()
_LAST_DAY = date(9999, 12, 31).toordinal() - _EPOCH
# Dates and weekdays repeat after 400 years. An interval that does not divide a day may take longer
# to reach the same time again, but such a schedule is useless.
_LONGEST_SEARCH = 146_097


@dataclass(frozen=True, slots=True)
class SubDailyCalendar:
    """Periods of equal length, limited to some days and times of day.

    It computes the times within a day and iterates over days. A search therefore takes at most the
    days of 400 years; iterating over periods could take minutes to find nothing.
    """

    anchor: int
    """The start of a period, wall time in seconds."""
    step: int
    """From one period to the next, seconds."""
    unit: int
    """The length of a period, seconds."""
    times: Mapping[int, Sequence[int]] | None
    """Times of day, by the start of their period modulo the step. None: all periods, each at
    ``offset``."""
    offset: int
    months: Collection[int]
    days: Collection[int]
    year_days: Collection[int]
    weekdays: Collection[int]
    """Monday is 0. For all four: empty means any, and negative numbers count from the end."""

    def first(self, wall: int) -> int | None:
        """Return the earliest wall time not before `wall`, in seconds."""
        day, at = divmod(wall, DAY)
        for number in range(day, min(day + _LONGEST_SEARCH, _LAST_DAY)):
            times = self._times(number)
            position = bisect_left(times, at) if number == day else 0
            if position < len(times):
                return number * DAY + times[position]
        return None

    def last(self, wall: int) -> int | None:
        """Return the latest wall time not after `wall`, in seconds, but none before the anchor."""
        day, at = divmod(wall, DAY)
        for number in range(day, max(day - _LONGEST_SEARCH, self.anchor // DAY - 1), -1):
            times = self._times(number)
            position = bisect_right(times, at) if number == day else len(times)
            if position:
                return number * DAY + times[position - 1]
        return None

    def count(self, start: int, end: int) -> int:
        """Return the number of wall times from `start`, before `end`."""
        total = 0
        for number in range(start // DAY, -(-end // DAY)):
            times = self._times(number)
            begin = number * DAY
            total += bisect_left(times, end - begin) - bisect_left(times, start - begin)
        return total

    def _times(self, number: int) -> Sequence[int]:
        """Return the times of a day, in order; `number` counts days since 1970."""
        if not self._is_on(date.fromordinal(number + _EPOCH)):
            return ()
        remainder = (self.anchor - number * DAY) % self.step
        if self.times is None:
            return range(remainder + self.offset, DAY, self.step)
        return self.times.get(remainder, ())

    def _is_on(self, day: date) -> bool:
        if self.months and day.month not in self.months:
            return False
        if self.weekdays and day.weekday() not in self.weekdays:
            return False
        if self.days:
            length = monthrange(day.year, day.month)[1]
            if day.day not in self.days and day.day - length - 1 not in self.days:
                return False
        if self.year_days:
            length = 366 if isleap(day.year) else 365
            at = (day - date(day.year, 1, 1)) // timedelta(days=1) + 1
            return at in self.year_days or at - length - 1 in self.year_days
        return True


def sub_daily_calendar(spec: RecurrenceSpec) -> SubDailyCalendar | None:
    """Return the calendar of a rule whose frequency is shorter than a day; otherwise None."""
    unit = UNITS.get(spec.frequency)
    if unit is None:
        return None
    parts = dict(spec.parts)
    step = spec.interval * unit
    anchor = to_local_seconds(spec.anchor)
    within = {"SECONDLY": (), "MINUTELY": ("bysecond",), "HOURLY": ("byminute", "bysecond")}
    free = parts.keys().isdisjoint({"byhour", "byminute", "bysecond"} - {*within[spec.frequency]})
    one_each = all(len(parts[name]) == 1 for name in within[spec.frequency])
    offset = sum(
        parts[name][0] * size
        for name, size in (("byminute", 60), ("bysecond", 1))
        if name in within[spec.frequency]
    )
    return SubDailyCalendar(
        anchor=anchor - anchor % unit,
        step=step,
        unit=unit,
        times=None if free and one_each else _by_remainder(parts, unit, step),
        offset=offset,
        months=frozenset(parts.get("bymonth", ())),
        days=frozenset(parts.get("bymonthday", ())),
        year_days=frozenset(parts.get("byyearday", ())),
        weekdays=frozenset(day for day, _ in spec.weekdays),
    )


def _by_remainder(
    parts: Mapping[str, Sequence[int]], unit: int, step: int
) -> Mapping[int, Sequence[int]]:
    found: defaultdict[int, list[int]] = defaultdict(list)
    for hour in parts.get("byhour", range(24)):
        for minute in parts.get("byminute", range(60)):
            for second in parts.get("bysecond", range(60)):
                at = hour * 3600 + minute * 60 + second
                found[(at - at % unit) % step].append(at)
    return found
