"""Schedules of jobs: cron expressions, intervals, recurrences, or manual starts only.

Nothing here reads a clock, a setting or the database. The libraries for each syntax are imported
when a text of that kind is parsed, because a tick on which nothing is due does not need them.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from chroniker.exceptions import ScheduleError
from chroniker.schedules.base import Schedule
from chroniker.schedules.jitter import jitter

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MAX_LENGTH", "Schedule", "jitter", "parse"]

MAX_LENGTH = 255
"""Characters; the width of the database column."""

# No job is older than this. Without a clock, a schedule with no slot after it is in the past.
_SINCE = datetime(2026, 1, 1, tzinfo=UTC)

_RECURRENCE = re.compile(r"(?:DTSTART|RRULE|EXDATE|RDATE|EXRULE)[;:]|FREQ=", re.IGNORECASE)
_HOLIDAYS = re.compile(r" (?:skip|shift) ", re.IGNORECASE)
_BLANKS = re.compile(r"[ \t\r\n]+")
_HASHED = re.compile(r"(?<![a-z])h(?![a-z])", re.IGNORECASE)
"""The item H of a cron expression, which depends on the name of the job."""
_CACHE_SIZE = 4096


def parse(
    text: str, *, zone: str | ZoneInfo, name: str = "", after: datetime | None = None
) -> Schedule:
    """Parse a schedule; its form decides its kind.

    `zone` is the IANA time zone of the schedule. `name` is the name of the job, from which H is
    hashed. With `after`, a schedule that has no later slot is rejected; without it, one that has no
    slot since 2026.

    Raises ScheduleError with the field, the reason, and what would be accepted.
    """
    name = name if _HASHED.search(text) else ""
    if after is None and isinstance(zone, str) and len(text) <= MAX_LENGTH:
        return _parse_cached(text, zone, name)
    return _parse_checked(text, zone, name, after or _SINCE)


@lru_cache(maxsize=_CACHE_SIZE)
def _parse_cached(text: str, zone: str, name: str) -> Schedule:
    """Parse a stored schedule. Many jobs share one, and parsing costs more than its next slot."""
    return _parse_checked(text, zone, name, _SINCE)


def _parse_checked(text: str, zone: str | ZoneInfo, name: str, since: datetime) -> Schedule:
    schedule = _parse(text, _zone(zone), name)
    if schedule.kind != "manual" and schedule.next(since) is None:
        never = f": {why}" if (why := schedule.never()) else f" after {since:%Y-%m-%d}."
        msg = (
            f"“{schedule.text}” never fires{never} Accepted: a schedule with at least one time in"
            " the future. Leave the field empty for a job without a schedule."
        )
        raise ScheduleError(msg)
    return schedule


def _parse(text: str, zone: ZoneInfo, name: str) -> Schedule:
    text = text.strip()
    if len(text) > MAX_LENGTH:
        msg = f"The schedule has {len(text)} characters. Accepted: at most {MAX_LENGTH}."
        raise ScheduleError(msg)
    if not text:
        from chroniker.schedules.manual import Manual

        return Manual(text="", zone=zone)
    recurrence = _RECURRENCE.match(text)
    for character in _unusable(text, allowed="\t\r\n" if recurrence else "\t"):
        msg = (
            f"The schedule contains the character U+{ord(character):04X}. Accepted: printable"
            " ASCII characters on one line."
        )
        raise ScheduleError(msg)
    text = _BLANKS.sub(" ", text)
    if _HOLIDAYS.search(text):
        from chroniker.schedules.holidays import respect_holidays, split_holidays

        if found := split_holidays(text):
            rest, *places = found
            return respect_holidays(text, zone, _parse(rest, zone, name), *places)
    if recurrence:
        from chroniker.schedules.recurrence import parse_recurrence

        return parse_recurrence(text, zone)

    from chroniker.schedules.interval import looks_like_interval, parse_interval

    if looks_like_interval(text):
        return parse_interval(text, zone)

    from chroniker.schedules.cron import parse_cron

    return parse_cron(text, zone, name)


def _unusable(text: str, *, allowed: str) -> Iterable[str]:
    return (c for c in text if not (" " <= c <= "~" or c in allowed))


def _zone(zone: str | ZoneInfo) -> ZoneInfo:
    if isinstance(zone, ZoneInfo):
        return zone
    try:
        return ZoneInfo(zone)
    # Other errors than KeyError: a directory of the zone database, or a name that is not a valid
    # path.
    except (LookupError, ValueError, OSError) as error:
        from difflib import get_close_matches
        from zoneinfo import available_timezones

        near = get_close_matches(zone, available_timezones(), n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        msg = (
            f"“{zone}” is not a known time zone.{hint} Accepted: IANA names such as Europe/Berlin,"
            " America/New_York or UTC."
        )
        raise ScheduleError(msg, field="timezone") from error
