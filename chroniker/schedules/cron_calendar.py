"""The days and times of a cron expression in local time."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

from .local_time import DAY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# 29 February on a given weekday repeats after 28 years, or after 40 across a century without a
# leap day. No combination of fields is rarer, so a longer search would find nothing.
_YEARS_TO_SEARCH = 41
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_LAST_YEAR = 9998


@dataclass(frozen=True, slots=True)
class DayRule:
    """The days that match; days are bits, 1 << 1 is the first of the month."""

    days: int
    last_day: bool
    nearest_weekday: int
    """The day whose nearest weekday matches (`15W`), or 0."""
    weekdays: frozenset[int]
    """Sunday is 0."""
    nth_weekdays: tuple[tuple[int, int], ...]
    """Pairs of a weekday and its number in the month, where -1 is the last."""
    either: bool
    """Whether a match of day of month or day of week is enough."""
    months: frozenset[int]
    years: frozenset[int] | None
    _masks: dict[tuple[int, int], int] = field(default_factory=dict, compare=False, repr=False)

    def mask(self, year: int, month: int) -> int:
        """Return the matching days of a month as bits."""
        if month not in self.months or (self.years is not None and year not in self.years):
            return 0
        first = date(year, month, 1)
        following = date(year + month // 12, month % 12 + 1, 1)
        shape = first.isoweekday() % 7, (following - first).days
        mask = self._masks.get(shape)
        if mask is None:
            mask = self._masks[shape] = self._mask(*shape)
        return mask

    def _mask(self, first_weekday: int, length: int) -> int:
        every_day = (2 << length) - 2
        by_date = self.days
        if self.last_day:
            by_date |= 1 << length
        if self.nearest_weekday:
            by_date |= 1 << _nearest_weekday(self.nearest_weekday, first_weekday, length)
        by_weekday = 0
        for day in range(1, length + 1):
            weekday = (first_weekday + day - 1) % 7
            number = -1 if day + 7 > length else 0
            if (
                weekday in self.weekdays
                or (weekday, (day + 6) // 7) in self.nth_weekdays
                or (weekday, number) in self.nth_weekdays
            ):
                by_weekday |= 1 << day
        matching = by_date | by_weekday if self.either else by_date & by_weekday
        return matching & every_day

    def first(self, ordinal: int) -> int | None:
        """Return the first matching day, as a proleptic ordinal, not before `ordinal`."""
        start = date.fromordinal(ordinal)
        mask = self.mask(start.year, start.month) >> start.day << start.day
        if mask:
            return ordinal - start.day + _lowest(mask)
        for year, month in self._months_beyond(start, 1):
            mask = self.mask(year, month)
            if mask:
                return date(year, month, _lowest(mask)).toordinal()
        return None

    def last(self, ordinal: int) -> int | None:
        """Return the last matching day, as a proleptic ordinal, not after `ordinal`."""
        start = date.fromordinal(ordinal)
        mask = self.mask(start.year, start.month) & ((2 << start.day) - 1)
        if mask:
            return ordinal - start.day + _highest(mask)
        for year, month in self._months_beyond(start, -1):
            mask = self.mask(year, month)
            if mask:
                return date(year, month, _highest(mask)).toordinal()
        return None

    def count(self, start: int, end: int) -> int:
        """Return the number of matching days from ordinal `start`, before ordinal `end`."""
        if end <= start:
            return 0
        since, until = date.fromordinal(start), date.fromordinal(end)
        total = -(self.mask(since.year, since.month) & ((1 << since.day) - 1)).bit_count()
        year, month = since.year, since.month
        while (year, month) < (until.year, until.month):
            total += self.mask(year, month).bit_count()
            year, month = year + month // 12, month % 12 + 1
        return total + (self.mask(year, month) & ((1 << until.day) - 1)).bit_count()

    def _months_beyond(self, start: date, step: int) -> Iterator[tuple[int, int]]:
        """Yield the months that can match, forwards (1) or backwards (-1), without start's own."""
        bound = start.year + step * _YEARS_TO_SEARCH
        years: Iterable[int] = range(start.year, bound, step)
        if self.years is not None:
            years = sorted(year for year in self.years if year * step >= start.year * step)[::step]
        months = sorted(self.months)[::step]
        for year in years:
            if not 1 <= year <= _LAST_YEAR:
                return
            for month in months:
                if year != start.year or month * step > start.month * step:
                    yield year, month


def _lowest(mask: int) -> int:
    return (mask & -mask).bit_length() - 1


def _highest(mask: int) -> int:
    return mask.bit_length() - 1


def _nearest_weekday(day: int, first_weekday: int, length: int) -> int:
    """Return the day from Monday to Friday that is closest to `day` within the month."""
    day = min(day, length)
    weekday = (first_weekday + day - 1) % 7
    if weekday == 6:
        return day - 1 if day > 1 else day + 2
    if weekday == 0:
        return day + 1 if day < length else day - 2
    return day


@dataclass(frozen=True, slots=True)
class CronCalendar:
    """The local times of an expression: some days, with the same times on each of them.

    The times of a day are numbered from 0. Number and time are computed from each other, so
    nothing here iterates over slots.
    """

    days: DayRule
    hours: tuple[int, ...]
    minutes: tuple[int, ...]
    seconds: tuple[int, ...]

    def first(self, wall: int) -> int | None:
        """Return the earliest matching local time not before `wall`, in seconds."""
        day, second = divmod(wall, DAY)
        number = self._number(second)
        if number == self._per_day():
            day, number = day + 1, 0
        found = self.days.first(day + _EPOCH_ORDINAL)
        if found is None:
            return None
        found -= _EPOCH_ORDINAL
        return found * DAY + self._time(number if found == day else 0)

    def last(self, wall: int) -> int | None:
        """Return the latest matching local time not after `wall`, in seconds."""
        day, second = divmod(wall, DAY)
        number = self._number(second + 1) - 1
        if number < 0:
            day, number = day - 1, self._per_day() - 1
        found = self.days.last(day + _EPOCH_ORDINAL)
        if found is None:
            return None
        found -= _EPOCH_ORDINAL
        return found * DAY + self._time(number if found == day else -1)

    def count(self, start: int, end: int) -> int:
        """Return the number of matching local times from `start`, before `end`."""
        return self._since_epoch(start, end) if start < end else 0

    def _since_epoch(self, start: int, end: int) -> int:
        first_day, start_second = divmod(start, DAY)
        last_day, end_second = divmod(end, DAY)
        first, last = first_day + _EPOCH_ORDINAL, last_day + _EPOCH_ORDINAL
        total = self.days.count(first, last) * self._per_day()
        if start_second and self.days.count(first, first + 1):
            total -= self._number(start_second)
        if end_second and self.days.count(last, last + 1):
            total += self._number(end_second)
        return total

    def _per_day(self) -> int:
        return len(self.hours) * len(self.minutes) * len(self.seconds)

    def _number(self, second: int) -> int:
        """Return how many times of a day are before `second` of it."""
        minute, second = divmod(second, 60)
        hour, minute = divmod(minute, 60)
        hours, minutes = self.hours, self.minutes
        at_hour = bisect_left(hours, hour)
        number = at_hour * len(minutes)
        if at_hour == len(hours) or hours[at_hour] != hour:
            return number * len(self.seconds)
        at_minute = bisect_left(minutes, minute)
        number = (number + at_minute) * len(self.seconds)
        if at_minute == len(minutes) or minutes[at_minute] != minute:
            return number
        return number + bisect_left(self.seconds, second)

    def _time(self, number: int) -> int:
        """Return the second of the day of a time; -1 is the last one."""
        rest, at_second = divmod(number, len(self.seconds))
        at_hour, at_minute = divmod(rest, len(self.minutes))
        return self.hours[at_hour] * 3600 + self.minutes[at_minute] * 60 + self.seconds[at_second]
