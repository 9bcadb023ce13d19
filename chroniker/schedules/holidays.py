"""Schedules that respect public holidays, by the library ``holidays`` (an extra)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from chroniker.exceptions import ScheduleError
from chroniker.schedules.base import Schedule

if TYPE_CHECKING:
    from collections.abc import Iterator
    from zoneinfo import ZoneInfo

_SUFFIX = re.compile(r"(.*\S) (skip|shift) ([A-Z]{2})(?:-([A-Z0-9]{1,3}))?", re.IGNORECASE)
_LONGEST_BREAK = timedelta(days=20)
"""No country has so many days without a working day in a row."""
_LONGEST_SEARCH = timedelta(days=3653)
"""For how long a schedule may be due on holidays only, before it counts as never due."""
_MOST_A_DAY = 24
_DAY = timedelta(days=1)
_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class WorkingDays(Schedule):
    """Another schedule that is not due on public holidays, or on the next working day instead."""

    kind: ClassVar[str] = "working_days"

    inner: Schedule
    country: str
    region: str
    shift: bool
    """Whether a slot moves to the next working day. Otherwise it is left out."""

    def next(self, after: datetime) -> datetime | None:
        """Return the first slot later than `after`, or None."""
        if self.shift:
            return min(self._moved_slots(after), default=None)
        slot = first = self.inner.next(after)
        while slot is not None and first is not None and self._is_holiday(slot):
            if slot - first > _LONGEST_SEARCH:
                return None
            slot = self.inner.next(self._midnight(self._day(slot) + _DAY) - _INSTANT)
        return slot

    def latest(self, after: datetime, until: datetime) -> datetime | None:
        """Return the last slot in (after, until], or None."""
        if self.shift:
            return max(self._between(after, until), default=None)
        slot = self.inner.latest(after, until)
        while slot is not None and self._is_holiday(slot):
            until = self._midnight(self._day(slot)) - _INSTANT
            slot = self.inner.latest(after, until) if until > after else None
        return slot

    def count(self, after: datetime, until: datetime) -> int:
        """Return how many slots are in (after, until]."""
        if until <= after:
            return 0
        if self.shift:
            return len(self._between(after, until))
        number = self.inner.count(after, until)
        day = self._day(after)
        while day <= self._day(until):
            if day in _calendar(self.country, self.region):
                first = max(after, self._midnight(day) - _INSTANT)
                last = min(until, self._midnight(day + _DAY) - _INSTANT)
                number -= self.inner.count(first, last) if last > first else 0
            day += _DAY
        return number

    def explain(self) -> str:
        """Return the other schedule as a sentence, and what happens on holidays."""
        place = f"{self.country}-{self.region}" if self.region else self.country
        if self.shift:
            return (
                f"{self.inner.explain()}; on weekends and public holidays ({place}) on the next"
                " working day instead"
            )
        return f"{self.inner.explain()}; not on public holidays ({place})"

    def warnings(self) -> list[str]:
        """Return those of the other schedule."""
        return self.inner.warnings()

    def never(self) -> str:
        """Return why the other schedule is never due."""
        return self.inner.never()

    def _day(self, moment: datetime) -> date:
        return moment.astimezone(self.zone).date()

    def _midnight(self, day: date) -> datetime:
        return datetime.combine(day, time(), self.zone).astimezone(UTC)

    def _is_holiday(self, slot: datetime) -> bool:
        return self._day(slot) in _calendar(self.country, self.region)

    def _moved(self, slot: datetime) -> datetime:
        """Return the slot, or its time on the next working day."""
        days = _calendar(self.country, self.region)
        local = slot.astimezone(self.zone)
        day = local.date()
        while not days.is_working_day(day):
            day += _DAY
        if day == local.date():
            return slot
        return datetime.combine(day, local.time(), self.zone).astimezone(UTC)

    def _moved_slots(self, after: datetime) -> Iterator[datetime]:
        """Yield moved slots later than `after`, at least until the earliest of them is certain."""
        earliest: datetime | None = None
        slot = self.inner.next(after - _LONGEST_BREAK)
        while slot is not None and (earliest is None or slot < earliest):
            moved = self._moved(slot)
            if moved > after:
                earliest = moved if earliest is None else min(earliest, moved)
                yield moved
            slot = self.inner.next(slot)

    def _between(self, after: datetime, until: datetime) -> set[datetime]:
        found = set()
        slot = self.inner.next(after - _LONGEST_BREAK)
        while slot is not None and slot <= until:
            moved = self._moved(slot)
            if after < moved <= until:
                found.add(moved)
            slot = self.inner.next(slot)
        return found


def split_holidays(text: str) -> tuple[str, str, str, str] | None:
    """Split a schedule into the rest, `skip` or `shift`, the country and the region."""
    found = _SUFFIX.fullmatch(text)
    if found is None:
        return None
    rest, word, country, region = found.groups()
    return rest, word.lower(), country.upper(), (region or "").upper()


def respect_holidays(
    text: str, zone: ZoneInfo, inner: Schedule, word: str, country: str, region: str
) -> WorkingDays:
    """Return the schedule. Raises ScheduleError for an unknown country or region."""
    _calendar(country, region)
    if inner.kind == "manual":
        raise ScheduleError(f"“{text}” has no schedule before {word}. Accepted: a schedule.")
    if word == "shift":
        start = datetime(2026, 1, 1, tzinfo=UTC)
        if inner.count(start, start + _DAY * 7) > 7 * _MOST_A_DAY:
            msg = (
                f"“{text}” is due too often to be moved. Accepted: at most {_MOST_A_DAY} times a"
                " day; or skip instead of shift."
            )
            raise ScheduleError(msg)
    return WorkingDays(
        text=text, zone=zone, inner=inner, country=country, region=region, shift=word == "shift"
    )


@lru_cache(maxsize=32)
def _calendar(country: str, region: str) -> Any:  # a dict of the library that computes years
    try:
        import holidays
    except ImportError as error:
        msg = (
            'skip and shift need the library holidays. Install "chroniker[holidays]" on every'
            " host. Accepted without it: schedules without holidays."
        )
        raise ScheduleError(msg) from error
    try:
        return holidays.country_holidays(country, subdiv=region or None)
    except NotImplementedError as error:
        place = f"{country}-{region}" if region else country
        msg = (
            f"The holidays of “{place}” are not known. Accepted: a country of ISO 3166 such as DE,"
            " with or without a region: DE-BY, US-CA."
        )
        raise ScheduleError(msg) from error
