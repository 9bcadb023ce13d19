"""The fields of a cron expression, normalized before croniter reads them."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, NamedTuple

from chroniker.exceptions import ScheduleError

if TYPE_CHECKING:
    from collections.abc import Sequence


class Field(NamedTuple):
    """One position of the expression."""

    name: str
    lowest: int
    highest: int
    names: tuple[str, ...] = ()


DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
MONTHS = (
    *("", "jan", "feb", "mar", "apr", "may", "jun"),
    *("jul", "aug", "sep", "oct", "nov", "dec"),
)
DAY_NAMES = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
MONTH_NAMES = (
    *("", "January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
FIELDS = (
    Field("minute", 0, 59),
    Field("hour", 0, 23),
    Field("day of month", 1, 31),
    Field("month", 1, 12, MONTHS),
    Field("day of week", 0, 6, DAYS),
    Field("second", 0, 59),
    Field("year", 1970, 2099),
)
MINUTE, HOUR, DAY_OF_MONTH, MONTH, DAY_OF_WEEK, SECOND, YEAR = range(7)

ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}

_ITEM = re.compile(r"(?:(\*)|(\d+)(?:-(\d+))?)(?:/(\d+))?", re.ASCII)
_ZONE = re.compile(r"(?:CRON_)?TZ=(\S+)", re.IGNORECASE)
_COMMAND = re.compile(r"(?:^|\s)/|[a-z]{3}")
_LAST_AT_END = re.compile(r"([0-7])l", re.ASCII)
_LONGEST_MONTHS = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}

_HASHED = re.compile(r"h(?:\((\d+)-(\d+)\))?(?:/(\d+))?", re.ASCII)
_RANDOM = re.compile(r"r(?:\(.*\))?(?:/.*)?", re.ASCII)
_NAME = re.compile(r"(?<![a-z])[a-z]{3}(?![a-z])")
_NUMBERED_RANGE = re.compile(r"([0-7])-([0-7])#(\d+)", re.ASCII)
_RANGE = re.compile(r"(\d+)-(\d+)(?:/\d+)?", re.ASCII)

# The last day that every month has: a job hashed to a later day would be skipped in some months.
_LAST_COMMON_DAY = 28


def normalize_fields(text: str, name: str) -> tuple[str, ...]:
    """Split a cron expression into fields that croniter reads as Debian's cron would.

    Aliases and hashed fields are expanded, names become numbers, and `5-5` becomes `5`, because
    croniter reads it as the whole range. Raises ScheduleError for errors that croniter would not
    report clearly.
    """
    if pasted := pasted_line(text):
        raise ScheduleError(pasted)
    lowered = text.lower()
    if lowered.startswith("@"):
        if lowered not in ALIASES:
            msg = f"“{text}” is not supported{_unknown_alias(lowered)}"
            raise ScheduleError(msg)
        lowered = ALIASES[lowered]
    fields = lowered.split()
    if not 5 <= len(fields) <= 7:
        msg = (
            f"“{text}” has {len(fields)} field{'' if len(fields) == 1 else 's'}. Accepted: five"
            " (minute, hour, day of month, month, day of week), optionally with a sixth (second)"
            " and a seventh (year); an interval such as `@every 90m`; a recurrence such as"
            " `RRULE:FREQ=WEEKLY;BYDAY=MO`; or an empty field."
        )
        raise ScheduleError(msg)
    return tuple(_normalize_field(index, field, name) for index, field in enumerate(fields))


def expand_field(index: int, text: str) -> list[int] | None:
    """Return the numbers of a normalized field; None if it is not made of plain numbers."""
    field = FIELDS[index]
    highest = 7 if index == DAY_OF_WEEK else field.highest
    found: set[int] = set()
    for item in text.split(","):
        match = _ITEM.fullmatch(item)
        if match is None:
            return None
        star, first, last, step = match.groups()
        low = field.lowest if star else int(first)
        high = field.highest if star or (step and last is None) else int(last or first)
        if not field.lowest <= low <= highest or high > highest or low > high or step == "0":
            return None
        found.update(range(low, high + 1, int(step or 1)))
    return sorted(found)


def impossible_date(fields: Sequence[str]) -> str:
    """Return why no month that matches has a day that matches, or nothing."""
    days, months = (expand_field(index, fields[index]) for index in (DAY_OF_MONTH, MONTH))
    if not days or not months or fields[DAY_OF_WEEK] not in ("*", "?"):
        return ""
    if any(day <= _LONGEST_MONTHS.get(month, 31) for day in days for month in months):
        return ""
    names = [MONTH_NAMES[month] for month in months]
    listed = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
    day = f"{days[0]}{'st' if days[0] == 31 else 'th'}"
    return f"{listed} never {'has' if len(names) == 1 else 'have'} a {day}."


def pasted_line(text: str) -> str:
    """Return what to do with the line of a crontab that was pasted, or nothing."""
    if zone := _ZONE.match(text):
        return (
            f"“{zone[0]}” belongs to a crontab. Remove it here, and set the time zone field to"
            f" {zone[1]}. Accepted here: the schedule alone."
        )
    words = text.split()
    beyond = words[1:] if text.startswith("@") else words[5:]
    if not text.lower().startswith("@every") and _COMMAND.search(" ".join(beyond).lower()):
        return (
            f"“{' '.join(beyond)}” looks like the command of a crontab line. Enter only the"
            " schedule here, and the command in its own field; `manage.py import_crontab` takes"
            " over whole lines. Accepted here: the schedule alone."
        )
    return ""


def is_wildcard(text: str, index: int) -> bool:
    """Return whether a field of the original text begins with a star, as Debian's cron checks it.

    `H/15` counts too, because it replaces `*/15`.
    """
    lowered = text.lower()
    field = ALIASES.get(lowered, lowered).split()[index]
    return field[0] in "*?" or field.startswith("h/")


def _unknown_alias(alias: str) -> str:
    if alias == "@reboot":
        return (
            ": a job is not tied to the start of a machine. Accepted: the other aliases. To start a"
            " job at boot, let the machine call `manage.py run_job`."
        )
    return f". Accepted: {', '.join(ALIASES)}, and `@every` with a duration."


def _normalize_field(index: int, text: str, name: str) -> str:
    items = text.split(",")
    return ",".join(_normalize_item(index, item, name, at) for at, item in enumerate(items))


def _normalize_item(index: int, item: str, name: str, at: int) -> str:
    field = FIELDS[index]
    if _RANDOM.fullmatch(item):
        msg = (
            f"The {field.name} is random (R), so missed starts could not be detected. Accepted: H,"
            " which also spreads jobs, but always gives a job the same time."
        )
        raise ScheduleError(msg)
    quartz = _LAST_AT_END.fullmatch(item) if index == DAY_OF_WEEK else None
    if quartz:
        day = DAY_NAMES[int(quartz[1]) % 7]
        msg = (
            f"“{item.upper()}” is Quartz syntax. Write L{quartz[1]}. Accepted: L{quartz[1]}, the"
            f" last {day}."
        )
        raise ScheduleError(msg)
    hashed = _HASHED.fullmatch(item)
    if hashed:
        return _expand_hashed(index, item, hashed.groups(), f"{name}\n{index}\n{at}")
    if field.names:
        item = _NAME.sub(lambda found: _number(field.names, found[0]), item)
    numbered = _NUMBERED_RANGE.fullmatch(item) if index == DAY_OF_WEEK else None
    if numbered:
        # croniter supports these only with names.
        first, last = int(numbered[1]), int(numbered[2])
        days = range(first, first + (last - first) % 7 + 1)
        return ",".join(f"{day % 7}#{numbered[3]}" for day in days)
    equal = _RANGE.fullmatch(item)
    if equal and int(equal[1]) == int(equal[2]):
        return equal[1]
    return item


def _number(names: Sequence[str], name: str) -> str:
    return str(names.index(name)) if name in names else name


def _expand_hashed(index: int, item: str, found: Sequence[str | None], key: str) -> str:
    """Replace a hashed item with numbers.

    This is our own hash and not croniter's, so that a new release cannot move a job to another
    time, and so that minute and hour are independent of each other.
    """
    field = FIELDS[index]
    if index == YEAR:
        msg = "The year cannot be hashed (H). Accepted: a year, a list or a range of years, and *."
        raise ScheduleError(msg)
    lowest, highest, step = (None if number is None else int(number) for number in found)
    if lowest is None or highest is None:
        lowest = field.lowest
        highest = _LAST_COMMON_DAY if index == DAY_OF_MONTH else field.highest
    if not field.lowest <= lowest <= highest <= field.highest or step == 0:
        msg = (
            f"“{item.upper()}” cannot be the {field.name}. Accepted: H, H/n and H(a-b), with a"
            f" and b from {field.lowest} to {field.highest} and n from 1."
        )
        raise ScheduleError(msg)
    size = highest - lowest + 1
    span = size if step is None else min(step, size)
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
    start = lowest + int.from_bytes(digest[:8]) % span
    if step is None or start + step > highest:
        return str(start)
    return f"{start}-{highest}/{step}"
