"""A fixed time after the slot before."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

from chroniker.exceptions import ScheduleError
from chroniker.schedules.base import Schedule

from .local_time import moment, seconds

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
    "Accepted are whole numbers of w, d, h, m and s, each once, such as `@every 90m`, `@every 45s`"
    " or `@every 1d12h`; for one and a half hours write 90m."
)


@dataclass(frozen=True, slots=True)
class Interval(Schedule):
    """A slot every so much elapsed time, whatever the clocks on the wall do.

    There is no fixed grid: each slot follows from the one before it, and the first from the moment
    that the caller counts from.
    """

    kind: ClassVar[str] = "interval"

    period: timedelta

    def next(self, after: datetime) -> datetime | None:
        """Return `after` and one period, or None past the year 9999."""
        return self._shifted(after, 1)

    def latest(self, after: datetime, until: datetime) -> datetime | None:
        """Return the last slot in (after, until] of the chain that starts at `after`, or None."""
        passed = self.count(after, until)
        return self._shifted(after, passed) if passed else None

    def count(self, after: datetime, until: datetime) -> int:
        """Return the number of slots in (after, until] of the chain that starts at `after`."""
        seconds(after), seconds(until)
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
        """Warn of periods below the minute."""
        return [FINER_THAN_A_TICK] if self.period < timedelta(minutes=1) else []

    def _shifted(self, after: datetime, times: int) -> datetime | None:
        whole = seconds(after)
        try:
            return moment(whole) + (after - moment(whole)) + self.period * times
        except OverflowError:
            return None


FINER_THAN_A_TICK = (
    "Slots closer than a minute: a system cron line ticks once a minute, and a job starts at most"
    " once a tick. `cronserver` ticks more often."
)


def looks_like_interval(text: str) -> bool:
    """Return whether `text` can only be meant as an interval."""
    return text[:6].lower() == "@every" or _WHOLE.fullmatch(text.lower()) is not None


def parse_interval(text: str, zone: ZoneInfo) -> Interval:
    """Read `@every 90m`, or `90m` alone.

    Raises ScheduleError with the reason, and with what would be accepted.
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
    # As numbers, because a period out of all bounds does not fit into a timedelta.
    if not 1 <= total <= LONGEST // SHORTEST:
        msg = f"“{text}” is not between one second and ten years. {_ACCEPTED}"
        raise ScheduleError(msg)
    return Interval(text=text, zone=zone, period=total * SHORTEST)
