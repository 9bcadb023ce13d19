"""When a job is to start: cron expressions, intervals, recurrences, or by hand only.

Nothing here reads a clock, a setting or the database, and the libraries that know the syntaxes are
imported when a text of their kind is parsed, because a tick on which nothing is due needs none.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from chroniker.exceptions import ScheduleError
from chroniker.schedules.base import Schedule
from chroniker.schedules.jitter import jitter

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MAX_LENGTH", "Schedule", "jitter", "parse"]

MAX_LENGTH = 255
"""Characters; the width of the column that keeps a schedule."""

# There is no job of this program that is older. Without a clock at hand, this is what tells a
# schedule that lies in the past altogether.
_SINCE = datetime(2026, 1, 1, tzinfo=UTC)

_RECURRENCE = re.compile(r"(?:DTSTART|RRULE|EXDATE|RDATE|EXRULE)[;:]|FREQ=", re.IGNORECASE)
_BLANKS = re.compile(r"[ \t\r\n]+")


def parse(
    text: str, *, zone: str | ZoneInfo, name: str = "", after: datetime | None = None
) -> Schedule:
    """Read a schedule; the kind is told by its form.

    `zone` is the IANA zone in whose wall time it is meant. `name` is what H is hashed on: the
    job's. With `after`, a schedule without any slot later than that is refused; without it, one
    without any slot since 2026.

    Raises ScheduleError with the reason, and with what would be accepted.
    """
    schedule = _parse(text, _zone(zone), name)
    since = after or _SINCE
    if schedule.kind != "manual" and schedule.next(since) is None:
        msg = (
            f"“{schedule.text}” never fires after {since:%Y-%m-%d}. Accepted is a schedule with at"
            " least one time to come; for none at all, leave the field empty."
        )
        raise ScheduleError(msg)
    return schedule


def _parse(text: str, zone: ZoneInfo, name: str) -> Schedule:
    text = text.strip()
    if len(text) > MAX_LENGTH:
        msg = f"This schedule has {len(text)} characters. Accepted are at most {MAX_LENGTH}."
        raise ScheduleError(msg)
    if not text:
        from chroniker.schedules.manual import Manual

        return Manual(text="", zone=zone)
    recurrence = _RECURRENCE.match(text)
    for character in _unusable(text, allowed="\t\r\n" if recurrence else "\t"):
        msg = (
            f"The schedule contains the character U+{ord(character):04X}. Accepted are printable"
            " ASCII characters on one line."
        )
        raise ScheduleError(msg)
    text = _BLANKS.sub(" ", text)
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
    # A name that is a folder of the zone database, or no path at all, is not a KeyError.
    except (LookupError, ValueError, OSError) as error:
        from difflib import get_close_matches
        from zoneinfo import available_timezones

        near = get_close_matches(zone, available_timezones(), n=1)
        hint = f" Is {near[0]} meant?" if near else ""
        msg = (
            f"“{zone}” is not a time zone known here.{hint} Accepted are IANA names such as"
            " Europe/Berlin, America/New_York or UTC."
        )
        raise ScheduleError(msg) from error
