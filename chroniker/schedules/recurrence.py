"""iCalendar recurrences (RFC 5545, 3.3.10): by arithmetic if possible, otherwise by dateutil."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, ClassVar

from chroniker.exceptions import ScheduleError
from chroniker.schedules.cron_calendar import CronCalendar, DayRule
from chroniker.schedules.interval import FINER_THAN_A_TICK
from chroniker.schedules.sub_daily import sub_daily_calendar

from .local_time import Calendar, LocalTimeSchedule, from_local_seconds, to_local_seconds
from .recurrence_parser import SHORT_FREQUENCIES, RecurrenceSpec, parse_rule

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from zoneinfo import ZoneInfo

# dateutil searches for the next time until the year 9999, which takes up to a minute. Dates and
# weekdays repeat every 400 years, so it is asked about a year near the end of that range; it then
# still searches a hundred years.
_CYCLE_YEARS = 400
_CYCLE = timedelta(days=146_097)
_LAST_YEAR = 9999 - 100

# How far back the first search for the latest time goes, in periods, and the factor of the next.
_INITIAL_PERIODS = 8
_WIDEN_FACTOR = 4


@dataclass(frozen=True, slots=True)
class Recurrence(LocalTimeSchedule):
    """An RRULE, with or without DTSTART and EXDATE.

    It follows the local clock: a skipped time happens directly after the gap, and a repeated time
    happens once, in the first pass.
    """

    kind: ClassVar[str] = "recurrence"

    spec: RecurrenceSpec

    def explain(self) -> str:
        """Return, for instance, "Every 2 weeks on Monday at 00:00 (Europe/Berlin)"."""
        from .descriptions import describe_recurrence

        return f"{describe_recurrence(self.spec)} ({self.zone})"

    def warnings(self) -> list[str]:
        """Warn about behaviour of a rule that is often unexpected."""
        found = []
        if self.spec.frequency in SHORT_FREQUENCIES:
            found.append(
                "A recurrence follows the local clock: in the hour that is repeated in autumn it"
                " fires only in the first pass. `@every` and * in cron fire in both."
            )
        if self.spec.step < timedelta(minutes=1):
            found.append(FINER_THAN_A_TICK)
        return found


@dataclass(frozen=True, slots=True)
class BoundedCalendar:
    """A calendar limited to a range, without some excluded times."""

    times: Calendar
    start: int
    end: int | None
    excluded: frozenset[int]
    """Only times that the calendar contains."""

    def first(self, wall: int) -> int | None:
        """Return the earliest wall time not before `wall`, in seconds."""
        found = self.times.first(max(wall, self.start))
        while found is not None and found in self.excluded:
            found = self.times.first(found + 1)
        return None if found is None or (self.end is not None and found > self.end) else found

    def last(self, wall: int) -> int | None:
        """Return the latest wall time not after `wall`, in seconds."""
        if wall < self.start:
            return None
        found = self.times.last(wall if self.end is None else min(wall, self.end))
        while found is not None and found in self.excluded:
            found = self.times.last(found - 1)
        return None if found is None or found < self.start else found

    def count(self, start: int, end: int) -> int:
        """Return the number of wall times from `start`, before `end`."""
        start = max(start, self.start)
        end = end if self.end is None else min(end, self.end + 1)
        if end <= start:
            return 0
        return self.times.count(start, end) - sum(start <= when < end for when in self.excluded)


@dataclass(frozen=True, slots=True)
class FixedStepCalendar:
    """One time every `step` seconds, in both directions without end."""

    anchor: int
    step: int

    def first(self, wall: int) -> int | None:
        """Return the earliest wall time not before `wall`, in seconds."""
        return wall + (self.anchor - wall) % self.step

    def last(self, wall: int) -> int | None:
        """Return the latest wall time not after `wall`, in seconds."""
        return wall - (wall - self.anchor) % self.step

    def count(self, start: int, end: int) -> int:
        """Return the number of wall times from `start`, before `end`."""
        return (end - 1 - self.anchor) // self.step - (start - 1 - self.anchor) // self.step


@dataclass(frozen=True, slots=True)
class DateutilCalendar:
    """Times by dateutil, which only iterates forward, so the ranges are kept small."""

    spec: RecurrenceSpec

    def first(self, wall: int) -> int | None:
        """Return the earliest wall time not before `wall`, in seconds."""
        return next(self.walk(wall), None)

    def last(self, wall: int) -> int | None:
        """Return the latest wall time not after `wall`, in seconds."""
        anchor = to_local_seconds(self.spec.anchor)
        reach = self.spec.step // timedelta(seconds=1) * _INITIAL_PERIODS
        until = wall
        while until >= anchor:
            times = list(self.walk(max(until - reach, anchor), until))
            if times:
                return times[-1]
            until -= reach + 1
            reach *= _WIDEN_FACTOR
        return None

    def count(self, start: int, end: int) -> int:
        """Return the number of wall times from `start`, before `end`, by iterating over them."""
        return sum(1 for _ in self.walk(start, end - 1))

    def walk(self, start: int, until: int | None = None) -> Iterator[int]:
        """Yield the wall times from `start` up to `until`."""
        begin = self.spec.aligned(from_local_seconds(start))
        end = None if until is None else from_local_seconds(until)
        furthest = begin.year if end is None else max(begin.year, end.year)
        shift = max((_LAST_YEAR - furthest) // _CYCLE_YEARS, 0) * _CYCLE
        for time in self._rule(begin + shift, None if end is None else end + shift):
            wall = to_local_seconds(time - shift)
            if wall >= start:
                yield wall

    def _rule(self, start: datetime, until: datetime | None) -> Iterator[datetime]:
        from dateutil import rrule as library

        parts = dict(self.spec.parts)
        rule = library.rrule(
            freq=getattr(library, self.spec.frequency),
            dtstart=start,
            interval=self.spec.interval,
            until=until,
            wkst=self.spec.week_start,
            byweekday=[library.weekday(*day) for day in self.spec.weekdays] or None,
            bysetpos=parts.get("bysetpos"),
            bymonth=parts.get("bymonth"),
            bymonthday=parts.get("bymonthday"),
            byyearday=parts.get("byyearday"),
            byweekno=parts.get("byweekno"),
            byhour=parts.get("byhour"),
            byminute=parts.get("byminute"),
            bysecond=parts.get("bysecond"),
        )
        return iter(rule)


def parse_recurrence(text: str, zone: ZoneInfo) -> Recurrence:
    """Parse an RRULE with an optional DTSTART before it and EXDATE after it.

    Raises ScheduleError with the reason and what would be accepted.
    """
    spec = parse_rule(text, zone)
    times = _times(spec)
    start = to_local_seconds(spec.anchor)
    end = None if spec.until is None else to_local_seconds(spec.until)
    try:
        if spec.count is not None:
            # A rule counts from its start, so the end is computed once and then works like UNTIL.
            end = _nth(times, start, spec.count)
        excluded = frozenset(
            when for when in map(to_local_seconds, spec.excluded) if times.first(when) == when
        )
        times.first(start)
    except ValueError as error:
        msg = (
            f"“{text}” never fires: its INTERVAL skips every time that its BY parts allow."
            " Accepted: a rule that matches at least once."
        )
        raise ScheduleError(msg) from error
    calendar = BoundedCalendar(times=times, start=start, end=end, excluded=excluded)
    return Recurrence(text=text, zone=zone, calendar=calendar, once=True, spec=spec)


def _times(spec: RecurrenceSpec) -> Calendar:
    """Return the cheapest calendar that can compute the times of a rule."""
    if spec.is_grid:
        return FixedStepCalendar(to_local_seconds(spec.anchor), spec.step // timedelta(seconds=1))
    return _days_and_times(spec) or sub_daily_calendar(spec) or DateutilCalendar(spec)


def _days_and_times(spec: RecurrenceSpec) -> CronCalendar | None:
    """Return a rule as days with the same times on each of them, if it has that form."""
    parts = dict(spec.parts)
    if (
        spec.interval > 1
        or spec.frequency in {"MONTHLY", "YEARLY"}
        or parts.keys() & {"bysetpos", "byyearday"}
    ):
        return None
    days = parts.get("bymonthday", range(1, 32))
    if min(days) < 0:
        return None
    weekdays = [(day + 1) % 7 for day, _ in spec.weekdays]
    rule = DayRule(
        days=sum(1 << day for day in days),
        last_day=False,
        nearest_weekday=0,
        weekdays=frozenset(weekdays or range(7)),
        nth_weekdays=(),
        either=False,
        months=frozenset(parts.get("bymonth", range(1, 13))),
        years=None,
    )
    return CronCalendar(
        days=rule,
        hours=tuple(parts.get("byhour", range(24))),
        minutes=tuple(parts.get("byminute", range(60))),
        seconds=tuple(parts.get("bysecond", range(60))),
    )


def _nth(times: Calendar, start: int, number: int) -> int:
    """Return the wall time with that number, counted from `start`; before `start` if none."""
    if isinstance(times, DateutilCalendar):
        return max(islice(times.walk(start), number), default=start - 1)
    found = start - 1
    for _ in range(number):
        following = times.first(found + 1)
        if following is None:
            break
        found = following
    return found
