"""Schedules in English: cron expressions by cron-descriptor, recurrences by our own code."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from .fields import DAY_OF_MONTH, DAY_OF_WEEK, MINUTE, SECOND, YEAR, expand_field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .recurrence_parser import RecurrenceSpec

_NUMBERED = re.compile(r"(\d)#(\d)|l(\d)", re.ASCII)
_ORDINALS = ("last", "first", "second", "third", "fourth", "fifth")
_FROM_SUNDAY = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_FROM_MONDAY = (*_FROM_SUNDAY[1:], "Sunday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_UNITS = {
    "SECONDLY": "second",
    "MINUTELY": "minute",
    "HOURLY": "hour",
    "DAILY": "day",
    "WEEKLY": "week",
    "MONTHLY": "month",
    "YEARLY": "year",
}
_FEW = 6


def describe_cron(fields: Sequence[str], *, either: bool) -> str:
    """Return normalized fields as a sentence, without the zone.

    `either`: a match of day of month or day of week is enough.
    """
    weekdays = fields[DAY_OF_WEEK]
    numbered = [_NUMBERED.fullmatch(item) for item in weekdays.split(",")]
    simple = [_simplified(index, field) for index, field in enumerate(fields)]
    if any(numbered):
        simple[DAY_OF_WEEK] = "*"
    minutes = simple[MINUTE]
    if len(simple) > SECOND and not simple[SECOND].isdigit() and minutes != "*":
        # cron-descriptor writes "every 10 seconds, every 10 minutes".
        simple[MINUTE] = "*"
        found = expand_field(MINUTE, minutes) or []
        plural = "s" if len(found) > 1 else ""
        listed = _joined(list(map(str, found)))
        sentence = f"{_by_descriptor(tuple(simple))}, during minute{plural} {listed}"
    else:
        sentence = _by_descriptor(tuple(simple))
    if any(numbered):
        days = _joined([_numbered_weekday(found) for found in numbered if found])
        return f"{sentence}, {'or ' if either else ''}on {days} of the month"
    if not either and simple[DAY_OF_MONTH] != "*":
        # cron-descriptor writes "or" whenever both are set, but with a star it is "and".
        sentence = sentence.replace(", or on ", ", only on ")
    return sentence


def _simplified(index: int, field: str) -> str:
    """Rewrite a field in the syntax of cron-descriptor without changing its meaning."""
    items = field.replace("-l", "-31").replace("?", "*").upper().split(",")
    if "*" in items:
        return "*"
    numbers = expand_field(index, field)
    if numbers is not None and len(numbers) == 1:  # 59/15, */61
        return str(numbers[0])
    if numbers is not None and index == DAY_OF_WEEK and len({n % 7 for n in numbers}) == 7:
        return "*"
    return ",".join(dict.fromkeys(items))


@lru_cache(maxsize=1024)
def _by_descriptor(fields: tuple[str, ...]) -> str:
    """Cached: cron-descriptor reads and parses its catalogue of messages at each call."""
    from cron_descriptor import Options, get_description

    options = Options()
    options.use_24hour_time_format = True
    options.locale_code = "en_US"
    days = ["0" if day == "7" else day for day in fields[DAY_OF_WEEK].split(",")]
    # With a sixth field, it expects the seconds first.
    ordered = [*fields[SECOND:YEAR], *fields[:DAY_OF_WEEK]]
    ordered += [",".join(dict.fromkeys(days)), *fields[YEAR:]]
    try:
        return str(get_description(" ".join(ordered), options))
    except Exception:
        # It supports less than croniter and raises various errors. The fields are still correct.
        return f"By the cron fields {' '.join(fields)}"


def _numbered_weekday(found: re.Match[str]) -> str:
    day, number, last = found.groups()
    return f"the {_ORDINALS[int(number or 0)]} {_FROM_SUNDAY[int(day or last) % 7]}"


def describe_recurrence(spec: RecurrenceSpec) -> str:
    """Return a recurrence as a sentence, without the zone."""
    unit = _UNITS[spec.frequency]
    every = f"Every {unit}" if spec.interval == 1 else f"Every {spec.interval} {unit}s"
    parts = dict(spec.parts)
    words = [every]
    if spec.weekdays:
        words.append(f"on {_joined([_weekday(*day) for day in spec.weekdays])}")
    if "bymonthday" in parts:
        words.append(f"on {_joined([_counted('day', n) for n in parts['bymonthday']])}")
    if "byyearday" in parts:
        words.append(f"on {_joined([_counted('day', n) for n in parts['byyearday']])} of the year")
    if "byweekno" in parts:
        words.append(f"in {_joined([_counted('week', n) for n in parts['byweekno']])}")
    if "bymonth" in parts:
        words.append(f"in {_joined([_MONTHS[n - 1] for n in parts['bymonth']])}")
    words.append(_times(spec, parts))
    if "bysetpos" in parts:
        positions = [_ordinal(n) for n in parts["bysetpos"]]
        words.append(f"(only the {_joined(positions)} of these)")
    limits = [" ".join(filter(None, words))]
    if spec.explicit_anchor:
        limits.append(f"from {spec.anchor:%Y-%m-%d %H:%M}")
    if spec.count is not None:
        limits.append("once" if spec.count == 1 else f"{spec.count} times")
    if spec.until is not None:
        limits.append(f"until {spec.until:%Y-%m-%d %H:%M}")
    if spec.excluded:
        number = len(spec.excluded)
        limits.append(f"except on {number} date{'' if number == 1 else 's'}")
    return ", ".join(limits)


def _times(spec: RecurrenceSpec, parts: dict[str, tuple[int, ...]]) -> str:
    hours, minutes, seconds = (parts.get(key) for key in ("byhour", "byminute", "bysecond"))
    if spec.is_grid:
        # Days and weeks start at the time of the anchor; shorter steps occur at every hour.
        if spec.frequency not in {"DAILY", "WEEKLY"}:
            return ""
        day = f"on {_FROM_MONDAY[spec.anchor.weekday()]} "
        return f"{day if spec.frequency == 'WEEKLY' else ''}at {spec.anchor:%H:%M}"
    if hours and minutes and seconds and len(hours) * len(minutes) * len(seconds) <= _FEW:
        with_seconds = seconds != (0,)
        times = [
            f"{hour:02}:{minute:02}" + (f":{second:02}" if with_seconds else "")
            for hour in hours
            for minute in minutes
            for second in seconds
        ]
        return f"at {_joined(times)}"
    limits = (("hour", hours), ("minute", minutes), ("second", seconds))
    texts = [
        f"{name} {_joined([str(n) for n in numbers])}"
        for name, numbers in limits
        if numbers and (name, numbers) != ("second", (0,))
    ]
    return f"at {', '.join(texts)}" if texts else ""


def _weekday(day: int, number: int | None) -> str:
    name = _FROM_MONDAY[day]
    return name if number is None else f"the {_ordinal(number)} {name}"


def _counted(unit: str, number: int) -> str:
    return f"{unit} {number}" if number > 0 else f"the {_ordinal(number)} {unit}"


def _ordinal(number: int) -> str:
    if number < 0:
        return "last" if number == -1 else f"{_ordinal(-number)} to last"
    if number < len(_ORDINALS):
        return _ORDINALS[number]
    suffix = (
        "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    )
    return f"{number}{suffix}"


def _joined(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
