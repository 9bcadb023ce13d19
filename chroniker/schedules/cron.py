"""Cron expressions, with the syntax of croniter and the semantics of Debian's cron."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

from chroniker.exceptions import ScheduleError
from chroniker.schedules.cron_calendar import CronCalendar, DayRule
from chroniker.schedules.fields import (
    DAY_OF_MONTH,
    DAY_OF_WEEK,
    FIELDS,
    HOUR,
    MINUTE,
    MONTH,
    SECOND,
    YEAR,
    impossible_date,
    is_wildcard,
    normalize_fields,
)
from chroniker.schedules.interval import FINER_THAN_A_TICK

from .local_time import LocalTimeSchedule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from zoneinfo import ZoneInfo

_NEAREST_WEEKDAY = re.compile(r"w(\d+)|(\d+)w", re.ASCII)
_STEPPED = re.compile(r"(?:\*|h)/(\d+)", re.ASCII)
_LONGEST_MONTH = 31


@dataclass(frozen=True, slots=True)
class Cron(LocalTimeSchedule):
    """A cron expression of five to seven fields.

    If neither minute nor hour begins with a star, each time happens exactly once on the nights on
    which the clocks change; otherwise the expression follows the local clock (cron(8) of Debian).
    A day has to match both day of month and day of week if one of the two fields begins with a
    star; otherwise it has to match one of them.
    """

    kind: ClassVar[str] = "cron"

    calendar: CronCalendar
    fields: tuple[str, ...]
    """As croniter reads them: aliases and hashed fields are expanded."""

    def explain(self) -> str:
        """Return, for instance, "Every 15 minutes, Monday through Friday (Europe/Berlin)"."""
        from .descriptions import describe_cron

        return f"{describe_cron(self.fields, either=self.calendar.days.either)} ({self.zone})"

    def warnings(self) -> list[str]:
        """Warn about behaviour of cron that is often unexpected."""
        found = []
        rule = self.calendar.days
        if rule.either:
            found.append(
                "Day of month and day of week are both set: cron starts the job on days that"
                " match either of them, not only on those that match both."
            )
        else:
            shortest = min(
                (28 if month == 2 else 30 if month in {4, 6, 9, 11} else 31)
                for month in rule.months
            )
            first_day = (rule.days & -rule.days).bit_length() - 1
            if not rule.last_day and not rule.nearest_weekday and first_day > shortest:
                found.append(
                    f"Months without a day {first_day} are skipped. Use L for the last day of"
                    " every month."
                )
        for index, size in ((MINUTE, 60), (HOUR, 24), (SECOND, 60)):
            stepped = _STEPPED.fullmatch(self._typed_field(index))
            if stepped and int(stepped[1]) >= size:
                unit = FIELDS[index].name
                found.append(
                    f"A step of {stepped[1]} is longer than the {size} {unit}s there are, so only"
                    f" {unit} 0 matches. Use `@every {stepped[1]}{unit[0]}` for such a period."
                )
            elif stepped and size % int(stepped[1]):
                found.append(
                    f"{size} is not a multiple of {stepped[1]}: the {FIELDS[index].name}s start"
                    f" again at 0, so the last step is shorter. Use `@every` for equal steps."
                )
        if len(self.calendar.seconds) > 1:
            found.append(FINER_THAN_A_TICK)
        return found

    def never(self) -> str:
        """Return, for instance, "February never has a 31st."."""
        return impossible_date(self.fields)

    def _typed_field(self, index: int) -> str:
        """Return a field as it was typed, or nothing."""
        fields = self.text.lower().split()
        return fields[index] if len(fields) > index else ""


def parse_cron(text: str, zone: ZoneInfo, name: str) -> Cron:
    """Parse a cron expression; H is hashed from `name`.

    Raises ScheduleError with the reason and what would be accepted.
    """
    fields = normalize_fields(text, name)
    values, nth = _expand(text, fields)
    while len(values) < len(FIELDS):
        values.append([0] if len(values) == SECOND else ["*"])
    days = values[DAY_OF_MONTH]
    weekdays = _numbers(DAY_OF_WEEK, values[DAY_OF_WEEK])
    nearest = _NEAREST_WEEKDAY.fullmatch(fields[DAY_OF_MONTH])
    if nth and weekdays - set(nth):
        msg = (
            f"“{text}” mixes plain weekdays with numbered ones (# or L). Accepted: one kind or the"
            " other. Define two jobs if you need both."
        )
        raise ScheduleError(msg)
    rule = DayRule(
        days=0 if nearest else sum(1 << day for day in _numbers(DAY_OF_MONTH, days)),
        last_day="l" in days,
        nearest_weekday=int(nearest[1] or nearest[2]) if nearest else 0,
        weekdays=frozenset() if nth else weekdays,
        nth_weekdays=tuple(
            sorted(
                (weekday, -1 if number == "l" else int(number))
                for weekday, numbers in nth.items()
                for number in numbers
            )
        ),
        either=not (is_wildcard(text, DAY_OF_MONTH) or is_wildcard(text, DAY_OF_WEEK)),
        months=_numbers(MONTH, values[MONTH]),
        years=None if values[YEAR] == ["*"] else _numbers(YEAR, values[YEAR]),
    )
    calendar = CronCalendar(
        days=rule,
        hours=tuple(sorted(_numbers(HOUR, values[HOUR]))),
        minutes=tuple(sorted(_numbers(MINUTE, values[MINUTE]))),
        seconds=tuple(sorted(_numbers(SECOND, values[SECOND]))),
    )
    once = not (is_wildcard(text, MINUTE) or is_wildcard(text, HOUR))
    return Cron(text=text, zone=zone, calendar=calendar, once=once, fields=fields)


def _numbers(index: int, values: Sequence[int | str]) -> frozenset[int]:
    """Return the numbers that match a field."""
    if "*" in values:
        return frozenset(range(FIELDS[index].lowest, FIELDS[index].highest + 1))
    return frozenset(value for value in values if isinstance(value, int))


def _expand(
    text: str, fields: Sequence[str]
) -> tuple[list[list[int | str]], Mapping[int, set[int | str]]]:
    from croniter import croniter

    try:
        values, nth = croniter.expand(" ".join(fields))
    except (ValueError, TypeError, LookupError) as error:
        raise ScheduleError(_reason(text, fields)) from error
    # The keys are weekdays as numbers and the values numbers or "l"; the stubs are wrong.
    return [list(value) for value in values], cast("Mapping[int, set[int | str]]", nth)


def _reason(text: str, fields: Sequence[str]) -> str:
    """Find the field that is wrong by parsing each one alone."""
    from croniter import croniter

    for index, field in enumerate(fields):
        alone = ["*"] * len(fields)
        alone[index] = field
        try:
            croniter.expand(" ".join(alone))
        except (ValueError, TypeError, LookupError):
            kind = FIELDS[index]
            extra = ", names such as " + kind.names[1].upper() if kind.names else ""
            if index == DAY_OF_MONTH:
                extra = ", L (the last day), 15W (the nearest weekday)"
            elif index == DAY_OF_WEEK:
                extra += ", 7 (Sunday), 5#2 (the second Friday), L5 (the last Friday)"
            written = text.split()[index] if len(text.split()) == len(fields) else field
            return (
                f"“{written}” cannot be the {kind.name}. Accepted: {kind.lowest} to"
                f" {kind.highest}{extra}, lists (1,2), ranges (1-5), steps (*/2, 1-9/2), H and *."
            )
    return f"“{text}” is not a cron expression. Accepted: five to seven fields."
