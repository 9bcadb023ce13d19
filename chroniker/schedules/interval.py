"""Intervals: a fixed time after the previous slot."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

from chroniker.exceptions import ScheduleError
from chroniker.schedules.base import Schedule

from .local_time import from_utc_seconds, to_utc_seconds

if TYPE_CHECKING:
    from datetime import datetime
    from zoneinfo import ZoneInfo

UNITS = {
    "w": ("week", timedelta(weeks=1)),
    "d": ("day", timedelta(days=1)),
    "h": ("hour", timedelta(hours=1)),
    "m": ("minute", timedelta(minutes=1)),
    "s": ("second", timedelta(seconds=1)),
}
SHORTEST = timedelta(seconds=1)
LONGEST = timedelta(days=3653)
"""Ten years."""

_PART = re.compile(r"(\d+)([wdhms])", re.ASCII)
_WHOLE = re.compile(r"(?:\d+[wdhms]\s*)+", re.ASCII)
_ACCEPTED = (
    "Accepted: whole numbers of w, d, h, m and s, each unit once, such as `@every 90m`,"
    " `@every 45s` or `@every 1d12h`. For one and a half hours write 90m."
)


@dataclass(frozen=True, slots=True)
class Interval(Schedule):
    """A slot each time a period has elapsed, independent of changes of local time.

    There is no fixed grid: each slot is one period after the previous one, and the first one is
    one period after the moment that the caller gives.
    """

    kind: ClassVar[str] = "interval"

    period: timedelta

    def next(self, after: datetime) -> datetime | None:
        """Return `after` plus one period, or None after the year 9999."""
        return self._shifted(after, 1)

    def latest(self, after: datetime, until: datetime) -> datetime | None:
        """Return the last slot in (after, until] of the slots counted from `after`, or None."""
        passed = self.count(after, until)
        return self._shifted(after, passed) if passed else None

    def count(self, after: datetime, until: datetime) -> int:
        """Return the number of slots in (after, until] of the slots counted from `after`."""
        to_utc_seconds(after), to_utc_seconds(until)
        return max((until - after) // self.period, 0)

    def explain(self) -> str:
        """Return, for instance, "Every 1 hour and 30 minutes"."""
        rest = self.period
        parts = []
        for name, length in UNITS.values():
            number, rest = divmod(rest, length)
            if number:
                parts.append(f"{number} {name}{'s' if number > 1 else ''}")
        if len(parts) == 1:
            return f"Every {parts[0].removeprefix('1 ')}"
        return f"Every {', '.join(parts[:-1])} and {parts[-1]}"

    def warnings(self) -> list[str]:
        """Warn about periods shorter than a minute."""
        return [FINER_THAN_A_TICK] if self.period < timedelta(minutes=1) else []

    def _shifted(self, after: datetime, times: int) -> datetime | None:
        whole = to_utc_seconds(after)
        try:
            return from_utc_seconds(whole) + (after - from_utc_seconds(whole)) + self.period * times
        except OverflowError:
            return None


FINER_THAN_A_TICK = (
    "Slots are closer than a minute: a line in the system's crontab ticks once a minute, and a job"
    " starts at most once per tick. `cronserver` can tick more often."
)


def looks_like_interval(text: str) -> bool:
    """Return whether `text` can only be meant as an interval."""
    return text[:6].lower() == "@every" or _WHOLE.fullmatch(text.lower()) is not None


def parse_interval(text: str, zone: ZoneInfo) -> Interval:
    """Parse `@every 90m`, or only `90m`.

    Raises ScheduleError with the reason and what would be accepted.
    """
    body = text[6:] if text[:6].lower() == "@every" else text
    body = body.strip().lower()
    if not _WHOLE.fullmatch(body):
        msg = f"“{text}” is not an interval. {_ACCEPTED}"
        raise ScheduleError(msg)
    total = 0
    used = set()
    for number, unit in _PART.findall(body):
        if unit in used:
            msg = f"“{text}” has the unit {unit} twice. {_ACCEPTED}"
            raise ScheduleError(msg)
        used.add(unit)
        total += int(number) * (UNITS[unit][1] // SHORTEST)
    # Compared as numbers, because a very long period does not fit into a timedelta.
    if not 1 <= total <= LONGEST // SHORTEST:
        msg = f"“{text}” is not between one second and ten years. {_ACCEPTED}"
        raise ScheduleError(msg)
    return Interval(text=text, zone=zone, period=total * SHORTEST)
