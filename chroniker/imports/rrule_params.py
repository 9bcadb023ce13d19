"""Schedules of django-chroniker: a frequency and parameters of dateutil's ``rrule``.

django-chroniker computes each run from the one before: ``rrule(frequency, dtstart=next_run,
**params).after(…)``. Its times are in UTC, unless the site has ``USE_TZ = False``. Each schedule
that is returned here has the same next occurrences; that is checked before it is returned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from dateutil import rrule as library

from chroniker.exceptions import ChronikerError, ScheduleError
from chroniker.schedules import Schedule, parse

COMPARED = 20
"""How many occurrences have to agree."""

Params = Mapping[str, tuple[int, ...]]

_WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_CRON_DAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
_RULE_NAMES = {
    "interval": "INTERVAL",
    "bysetpos": "BYSETPOS",
    "bymonth": "BYMONTH",
    "bymonthday": "BYMONTHDAY",
    "byyearday": "BYYEARDAY",
    "byweekno": "BYWEEKNO",
    "byweekday": "BYDAY",
    "byhour": "BYHOUR",
    "byminute": "BYMINUTE",
    "bysecond": "BYSECOND",
    "wkst": "WKST",
}
_SINGLE = ("interval", "count", "wkst")
_UNSUPPORTED = ("byeaster",)
_STEPS = {
    "SECONDLY": timedelta(seconds=1),
    "MINUTELY": timedelta(minutes=1),
    "HOURLY": timedelta(hours=1),
    "DAILY": timedelta(days=1),
    "WEEKLY": timedelta(weeks=1),
}
_UNITS = {"SECONDLY": "s", "MINUTELY": "m", "HOURLY": "h", "DAILY": "d", "WEEKLY": "w"}
_SIZES = {"SECONDLY": 60, "MINUTELY": 60, "HOURLY": 24}
FREQUENCIES = (*_STEPS, "MONTHLY", "YEARLY")


class NotConvertible(ChronikerError):
    """The schedule cannot be taken over; the message says why."""


@dataclass(frozen=True, slots=True)
class ConvertedSchedule:
    """A schedule with the same occurrences."""

    text: str
    zone: str
    counts_from: datetime | None = None
    """For an interval: the moment from which it has to count."""
    notes: tuple[str, ...] = ()


def parse_params(text: str | None) -> Params:
    """Parse ``byweekday:MO,WE;byhour:7``. Raises NotConvertible."""
    params: dict[str, tuple[int, ...]] = {}
    for part in (text or "").split(";"):
        name, colon, values = part.partition(":")
        name = name.strip()
        if not part.strip():
            continue
        if not colon or ":" in values:
            raise NotConvertible(f"“{part.strip()}” is not a parameter")
        if name in _UNSUPPORTED or name not in (*_RULE_NAMES, "count"):
            raise NotConvertible(f"the parameter {name} has no counterpart")
        try:
            params[name] = tuple(_number(value.strip()) for value in values.split(","))
        except ValueError as error:
            raise NotConvertible(f"{name} has a value that is not a number: {values}") from error
        if name in _SINGLE and len(params[name]) != 1:
            raise NotConvertible(f"{name} has several values")
    return params


def _number(value: str) -> int:
    return _WEEKDAYS.index(value) if value in _WEEKDAYS else int(value)


def convert(
    frequency: str, params_text: str | None, next_run: datetime | None, now: datetime, zone: str
) -> ConvertedSchedule:
    """Return a cron expression, an interval or a recurrence with the same occurrences.

    ``next_run`` is the stored one; ``zone`` is the time zone in which it was computed. Raises
    NotConvertible.
    """
    if frequency not in FREQUENCIES:
        raise NotConvertible(f"there is no frequency {frequency!r}")
    params = parse_params(params_text)
    start = (next_run or now).astimezone(ZoneInfo(zone)).replace(microsecond=0)
    notes = []
    if "count" in params:
        if params["count"] == (1,):
            return _once(start, now, zone)
        notes.append("its count is left out: it began again with each run, so it never ended a job")
        params = {name: values for name, values in params.items() if name != "count"}
    # First, because dateutil searches until the year 9999 for a time that never comes.
    parsed, reason = _parsed(_candidates(frequency, params, start), zone, now)
    if not parsed:
        raise NotConvertible(reason)
    try:
        expected = occurrences(frequency, params, start, now)
    except (ValueError, TypeError, OverflowError) as error:
        raise NotConvertible(f"dateutil rejects it: {error}") from error
    if not expected:
        raise NotConvertible("it has no time in the future")
    if next_run is not None and now < next_run and expected[0] != start.astimezone(UTC):
        notes.append(
            f"its next run was set to {next_run:%Y-%m-%d %H:%M:%S}Z by hand, a time that its rule "
            f"does not have; it starts at {expected[0]:%Y-%m-%d %H:%M:%S}Z"
        )
    step = _STEPS.get(frequency, timedelta()) * params.get("interval", (1,))[0]
    for schedule in parsed:
        since = expected[0] - step if schedule.kind == "interval" else now
        if schedule.upcoming(since, COMPARED) == expected:
            counts_from = since if schedule.kind == "interval" else None
            return ConvertedSchedule(schedule.text, zone, counts_from, tuple(notes))
    raise NotConvertible("no schedule has the same times")


def _parsed(texts: Iterator[str], zone: str, now: datetime) -> tuple[list[Schedule], str]:
    """Return the schedules that can be parsed, and why the last other one cannot."""
    found, reason = [], ""
    for text in texts:
        try:
            found.append(parse(text, zone=zone, after=now))
        except ScheduleError as error:
            reason = error.reason
    return found, reason


def _once(start: datetime, now: datetime, zone: str) -> ConvertedSchedule:
    if start <= now:
        raise NotConvertible("it was to run once, at a time that is over")
    text = f"DTSTART:{start:%Y%m%dT%H%M%S} RRULE:FREQ=DAILY;COUNT=1"
    return ConvertedSchedule(text, zone, notes=("it runs once, as its count says",))


def occurrences(
    frequency: str, params: Params, start: datetime, now: datetime, number: int = COMPARED
) -> list[datetime]:
    """Return the next occurrences as django-chroniker computes them, UTC.

    ``start`` is the stored next run in the zone of the rule.
    """
    step = _STEPS.get(frequency)
    interval = params.get("interval", (1,))[0]
    wall, wall_now = start.replace(tzinfo=None), now.astimezone(start.tzinfo).replace(tzinfo=None)
    if step and interval > 0 and wall < wall_now and frequency in _SIZES:
        # The same grid, but not counted from years ago.
        wall += (wall_now - wall) // (step * interval) * step * interval
    values = {name: found[0] if name in _SINGLE else list(found) for name, found in params.items()}
    rule = library.rrule(getattr(library, frequency), dtstart=wall, **values)  # type: ignore[arg-type]
    inclusive = wall > wall_now
    found = rule.xafter(wall if inclusive else wall_now, inc=inclusive)
    return [moment.replace(tzinfo=start.tzinfo).astimezone(UTC) for moment in islice(found, number)]


def _candidates(frequency: str, params: Params, start: datetime) -> Iterator[str]:
    """Yield schedules that may have the same occurrences, the most readable first."""
    if cron := _as_cron(frequency, params, start):
        yield cron
    if frequency in _STEPS and not params.keys() - {"interval", "wkst"} and start.tzname() == "UTC":
        yield f"@every {params.get('interval', (1,))[0]}{_UNITS[frequency]}"
    each_week = params.get("interval", (1,)) == (1,)
    if frequency == "WEEKLY" and "bymonthday" in params and each_week:
        frequency = "DAILY"  # the same days, and a form that RFC 5545 allows
    yield _as_rule(frequency, params, start)


def _as_rule(frequency: str, params: Params, start: datetime) -> str:
    parts = [f"FREQ={frequency}"]
    for name, key in _RULE_NAMES.items():
        values = params.get(name)
        if values is None:
            continue
        days = name in ("byweekday", "wkst") and all(0 <= value <= 6 for value in values)
        parts.append(f"{key}={','.join(_WEEKDAYS[v] if days else str(v) for v in values)}")
    return f"DTSTART:{start:%Y%m%dT%H%M%S} RRULE:{';'.join(parts)}"


def _as_cron(frequency: str, params: Params, start: datetime) -> str:
    """Return a cron expression that may be the same, or nothing."""
    interval = params.get("interval", (1,))[0]
    if interval < 1 or params.keys() & {"bysetpos", "byyearday", "byweekno"}:
        return ""
    if interval > 1 and (frequency not in _SIZES or _SIZES[frequency] % interval):
        return ""
    days, months, weekdays = (params.get(n) for n in ("bymonthday", "bymonth", "byweekday"))
    if days is None and weekdays is None:
        if frequency in ("MONTHLY", "YEARLY"):
            days = (start.day,)
        elif frequency == "WEEKLY":
            weekdays = (start.weekday(),)
        if frequency == "YEARLY" and months is None:
            months = (start.month,)
    if (days and weekdays) or (days and min(days) < 0 and days != (-1,)):
        return ""
    fields = [
        _clock_field("MINUTELY", frequency, params.get("byminute"), start.minute, interval),
        _clock_field("HOURLY", frequency, params.get("byhour"), start.hour, interval),
        "L" if days == (-1,) else _list(days),
        _list(months),
        _weekday_field(weekdays),
    ]
    second = _clock_field("SECONDLY", frequency, params.get("bysecond"), start.second, interval)
    return " ".join(fields if second == "0" else [*fields, second])


_FINEST = ("SECONDLY", "MINUTELY", "HOURLY")


def _clock_field(
    unit: str, frequency: str, values: tuple[int, ...] | None, at: int, interval: int
) -> str:
    """Return the field of a unit: given, or of each period, or that of the start."""
    if values is not None:
        return _list(values)
    if unit == frequency and interval > 1:
        offset = at % interval
        return f"{offset}-{_SIZES[unit] - 1}/{interval}" if offset else f"*/{interval}"
    if frequency in _FINEST and _FINEST.index(unit) >= _FINEST.index(frequency):
        return "*"
    return str(at)


def _weekday_field(values: tuple[int, ...] | None) -> str:
    if not values or set(values) == set(range(7)):
        return "*"
    ordered = sorted(set(values))
    if len(ordered) > 2 and ordered == list(range(ordered[0], ordered[-1] + 1)):
        return f"{_CRON_DAYS[ordered[0]]}-{_CRON_DAYS[ordered[-1]]}"
    return ",".join(_CRON_DAYS[value] if value in range(7) else str(value) for value in ordered)


def _list(values: Sequence[int] | None) -> str:
    if not values:
        return "*"
    ordered = sorted(set(values))
    if len(ordered) > 2 and ordered == list(range(ordered[0], ordered[-1] + 1)):
        return f"{ordered[0]}-{ordered[-1]}"
    return ",".join(map(str, ordered))
