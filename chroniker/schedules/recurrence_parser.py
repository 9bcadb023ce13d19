"""Parser for recurrences: DTSTART, RRULE and EXDATE of RFC 5545."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, NamedTuple

from chroniker.exceptions import ScheduleError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from zoneinfo import ZoneInfo

ANCHOR = datetime(2001, 1, 1)
"""The start of a rule without DTSTART: a fixed Monday, so that INTERVAL always means the same."""

STEPS = {
    "SECONDLY": timedelta(seconds=1),
    "MINUTELY": timedelta(minutes=1),
    "HOURLY": timedelta(hours=1),
    "DAILY": timedelta(days=1),
    "WEEKLY": timedelta(weeks=1),
    "MONTHLY": timedelta(days=30),
    "YEARLY": timedelta(days=365),
}
WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
MAX_COUNT = 10_000
LONGEST_STEP = timedelta(days=36_525)

_DATE = re.compile(r"(\d{8})(?:T(\d{6})(Z?))?", re.ASCII)
_WEEKDAY = re.compile(r"([+-]?\d{1,2})?(MO|TU|WE|TH|FR|SA|SU)", re.ASCII)
_NUMBER = re.compile(r"[+-]?\d{1,9}", re.ASCII)
_ACCEPTED = (
    "Accepted: `RRULE:FREQ=…` with INTERVAL, COUNT or UNTIL, WKST and the BY parts of RFC 5545,"
    " optionally after `DTSTART:20260101T090000` and before `EXDATE:20261224T090000`."
)


class _ByPart(NamedTuple):
    """A BY part: dateutil's name, the numbers allowed, whether negative ones are, and where."""

    keyword: str
    lowest: int
    highest: int
    negative: bool = False
    frequencies: tuple[str, ...] = tuple(STEPS)


LONG_FREQUENCIES = ("DAILY", "WEEKLY", "MONTHLY", "YEARLY")
SHORT_FREQUENCIES = ("SECONDLY", "MINUTELY", "HOURLY")
_PARTS = {
    "BYMONTH": _ByPart("bymonth", 1, 12),
    "BYWEEKNO": _ByPart("byweekno", 1, 53, negative=True, frequencies=("YEARLY",)),
    "BYYEARDAY": _ByPart(
        "byyearday", 1, 366, negative=True, frequencies=(*SHORT_FREQUENCIES, "YEARLY")
    ),
    "BYMONTHDAY": _ByPart(
        "bymonthday",
        1,
        31,
        negative=True,
        frequencies=(*SHORT_FREQUENCIES, "DAILY", "MONTHLY", "YEARLY"),
    ),
    "BYHOUR": _ByPart("byhour", 0, 23),
    "BYMINUTE": _ByPart("byminute", 0, 59),
    "BYSECOND": _ByPart("bysecond", 0, 59),
    # With shorter periods it could only pick from very few times, or never match.
    "BYSETPOS": _ByPart("bysetpos", 1, 366, negative=True, frequencies=LONG_FREQUENCIES),
}
_OTHERS = ("FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST", "BYDAY")


@dataclass(frozen=True, slots=True)
class RecurrenceSpec:
    """A parsed recurrence; all times are local times."""

    frequency: str
    interval: int
    anchor: datetime
    explicit_anchor: bool
    until: datetime | None
    count: int | None
    week_start: int
    """Monday is 0, here and in `weekdays`."""
    weekdays: tuple[tuple[int, int | None], ...]
    """Pairs of a weekday and its number in the month or year, if it has one."""
    parts: tuple[tuple[str, tuple[int, ...]], ...]
    """The other BY parts, by dateutil's keywords, with those that follow from the anchor."""
    excluded: tuple[datetime, ...]
    is_grid: bool
    """Whether there is nothing but FREQ and INTERVAL, of a frequency with an even step."""

    @property
    def step(self) -> timedelta:
        """The length of a period with INTERVAL; for months and years, about."""
        return STEPS[self.frequency] * self.interval

    def aligned(self, wall: datetime) -> datetime:
        """Return a start not after `wall` from which the rule gives the same later times.

        It avoids counting from the anchor, which may be decades ago.
        """
        periods = self._period(wall) // self.interval
        if periods <= 0:
            return self.anchor
        passed = periods * self.interval
        if self.frequency == "YEARLY":
            return datetime(self.anchor.year + passed, 1, 1)
        if self.frequency == "MONTHLY":
            year, month = divmod(self.anchor.year * 12 + self.anchor.month - 1 + passed, 12)
            return datetime(year, month + 1, 1)
        if self.frequency == "WEEKLY":
            return self._week(self.anchor) + passed * STEPS["WEEKLY"]
        begin = self.anchor + passed * STEPS[self.frequency]
        return datetime.combine(begin, time()) if self.frequency == "DAILY" else begin

    def _period(self, wall: datetime) -> int:
        """Return how many periods of the frequency are between the anchor and `wall`."""
        anchor = self.anchor
        if self.frequency == "YEARLY":
            return wall.year - anchor.year
        if self.frequency == "MONTHLY":
            return (wall.year - anchor.year) * 12 + wall.month - anchor.month
        if self.frequency == "WEEKLY":
            return (self._week(wall) - self._week(anchor)) // STEPS["WEEKLY"]
        if self.frequency == "DAILY":
            return wall.toordinal() - anchor.toordinal()
        return (wall - anchor) // STEPS[self.frequency]

    def _week(self, wall: datetime) -> datetime:
        day = wall - timedelta(days=(wall.weekday() - self.week_start) % 7)
        return datetime.combine(day, time())


def parse_rule(text: str, zone: ZoneInfo) -> RecurrenceSpec:
    """Parse the text; times that end in Z are converted to local time of `zone`.

    Raises ScheduleError with the reason and what would be accepted.
    """
    lines: dict[str, str] = {}
    for word in text.upper().split():
        name, _, value = ("RRULE", "", word) if word.startswith("FREQ=") else word.partition(":")
        property_, _, parameters = name.partition(";")
        if property_ in {"RDATE", "EXRULE"} or property_ not in {"DTSTART", "RRULE", "EXDATE"}:
            raise _error(f"“{word}” is not supported.")
        if property_ in lines:
            raise _error(f"{property_} is given twice.")
        _check_parameters(parameters, zone)
        lines[property_] = value
    if "RRULE" not in lines:
        raise _error("There is no RRULE.")
    anchor = _date(lines["DTSTART"], zone, "DTSTART") if "DTSTART" in lines else ANCHOR
    excluded = (
        [_date(d, zone, "EXDATE") for d in lines["EXDATE"].split(",")]
        if ("EXDATE" in lines)
        else []
    )
    return _build_spec(lines["RRULE"], anchor, "DTSTART" in lines, tuple(excluded), zone)


def _error(reason: str) -> ScheduleError:
    return ScheduleError(f"{reason} {_ACCEPTED}")


def _check_parameters(parameters: str, zone: ZoneInfo) -> None:
    for parameter in filter(None, parameters.split(";")):
        if parameter == f"TZID={zone}".upper() or parameter in {"VALUE=DATE", "VALUE=DATE-TIME"}:
            continue
        raise _error(f"“{parameter}” is not allowed: the job's own time zone, {zone}, applies.")


def _date(text: str, zone: ZoneInfo, what: str, *, day_end: bool = False) -> datetime:
    found = _DATE.fullmatch(text)
    if not found:
        raise _error(f"“{text}” is not a date for {what}, such as 20260131T090000.")
    try:
        when = datetime.strptime(found[1] + (found[2] or "000000"), "%Y%m%d%H%M%S")
        if found[3]:
            when = when.replace(tzinfo=UTC).astimezone(zone).replace(tzinfo=None, fold=0)
    except (ValueError, OverflowError) as error:
        raise _error(f"“{text}” is not a date that exists.") from error
    if not 1900 <= when.year <= 2199:
        raise _error(f"{what} must be between the years 1900 and 2199.")
    return when.replace(hour=23, minute=59, second=59) if day_end and not found[2] else when


def _build_spec(
    rule: str,
    anchor: datetime,
    explicit_anchor: bool,
    excluded: tuple[datetime, ...],
    zone: ZoneInfo,
) -> RecurrenceSpec:
    values = _split(rule)
    frequency = values.get("FREQ", "")
    if frequency not in STEPS:
        raise _error(f"FREQ is “{frequency}”, but must be one of {', '.join(STEPS)}.")
    interval = _whole(values.get("INTERVAL", "1"), "INTERVAL", LONGEST_STEP // STEPS[frequency])
    if "COUNT" in values and "UNTIL" in values:
        raise _error("COUNT and UNTIL cannot be combined.")
    parts = {
        part.keyword: _numbers(key, values[key], frequency)
        for key, part in _PARTS.items()
        if key in values
    }
    weekdays = _weekdays(values["BYDAY"], frequency) if "BYDAY" in values else ()
    if "bysetpos" in parts and len(parts) == 1 and not weekdays:
        raise _error("BYSETPOS needs another BY part.")
    is_grid = not parts and not weekdays and STEPS[frequency] <= STEPS["WEEKLY"]
    if not is_grid:
        weekdays = _fill_from_anchor(parts, weekdays, frequency, anchor)
    return RecurrenceSpec(
        frequency=frequency,
        interval=interval,
        anchor=anchor,
        explicit_anchor=explicit_anchor,
        until=_date(values["UNTIL"], zone, "UNTIL", day_end=True) if "UNTIL" in values else None,
        count=_whole(values["COUNT"], "COUNT", MAX_COUNT) if "COUNT" in values else None,
        week_start=_week_start(values.get("WKST", "MO")),
        weekdays=weekdays,
        parts=tuple(parts.items()),
        excluded=excluded,
        is_grid=is_grid,
    )


def _fill_from_anchor(
    parts: dict[str, tuple[int, ...]],
    weekdays: tuple[tuple[int, int | None], ...],
    frequency: str,
    anchor: datetime,
) -> tuple[tuple[int, int | None], ...]:
    """Add what the rule takes from its anchor, because dateutil is given another start."""
    if not weekdays and not parts.keys() & {"byweekno", "byyearday", "bymonthday"}:
        if frequency == "WEEKLY":
            weekdays = ((anchor.weekday(), None),)
        elif frequency in {"MONTHLY", "YEARLY"}:
            parts["bymonthday"] = (anchor.day,)
            if frequency == "YEARLY":
                parts.setdefault("bymonth", (anchor.month,))
    if frequency in LONG_FREQUENCIES:
        parts.setdefault("byhour", (anchor.hour,))
    if frequency in {*LONG_FREQUENCIES, "HOURLY"}:
        parts.setdefault("byminute", (anchor.minute,))
    if frequency != "SECONDLY":
        parts.setdefault("bysecond", (anchor.second,))
    return weekdays


def _split(rule: str) -> Mapping[str, str]:
    values: dict[str, str] = {}
    for word in rule.removesuffix(";").split(";"):
        key, equals, value = word.partition("=")
        if not equals or key not in {*_OTHERS, *_PARTS}:
            raise _error(f"“{word}” is not a part of an RRULE.")
        if key in values:
            raise _error(f"{key} is given twice.")
        values[key] = value
    return values


def _whole(text: str, what: str, highest: int) -> int:
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= highest:
        raise _error(f"{what} is “{text}”, but must be from 1 to {highest}.")
    return int(text)


def _numbers(key: str, text: str, frequency: str) -> tuple[int, ...]:
    part = _PARTS[key]
    if frequency not in part.frequencies:
        raise _error(f"{key} cannot be used with FREQ={frequency}.")
    numbers = set()
    for word in text.split(","):
        number = int(word) if _NUMBER.fullmatch(word) else None
        size = None if number is None else abs(number) if part.negative else number
        if size is None or number is None or not part.lowest <= size <= part.highest:
            minus = ", or negative to count from the end" if part.negative else ""
            raise _error(
                f"{key} has “{word}”, but must be from {part.lowest} to {part.highest}{minus}."
            )
        numbers.add(number)
    return tuple(sorted(numbers))


def _weekdays(text: str, frequency: str) -> tuple[tuple[int, int | None], ...]:
    found: list[tuple[int, int | None]] = []
    for word in text.split(","):
        match = _WEEKDAY.fullmatch(word)
        if not match:
            raise _error(f"BYDAY has “{word}”, but must be one of {', '.join(WEEKDAYS)}.")
        number = int(match[1]) if match[1] else None
        most = {"MONTHLY": 5, "YEARLY": 53}.get(frequency)
        if number is not None and (most is None or not 1 <= abs(number) <= most):
            raise _error(
                f"BYDAY has “{word}”; numbers need FREQ=MONTHLY (up to 5) or YEARLY (up to 53)."
            )
        found.append((WEEKDAYS.index(match[2]), number))
    return tuple(dict.fromkeys(found))


def _week_start(text: str) -> int:
    if text not in WEEKDAYS:
        raise _error(f"WKST is “{text}”, but must be one of {', '.join(WEEKDAYS)}.")
    return WEEKDAYS.index(text)
