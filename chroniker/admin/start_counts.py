"""How many jobs start when, computed from their schedules. Pure functions; nothing is read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from chroniker.schedules import Schedule

HOUR = timedelta(hours=1)
WORK = 10_000
"""Slots that are computed one by one for a page. About 10 microseconds each."""
_PER_HOUR = 60
"""Schedules with more slots in an hour are only counted."""
_COUNT_COST = 4
"""What counting the slots of an hour costs, in slots."""


@dataclass(frozen=True, slots=True)
class SharedSchedule:
    """A schedule and the jobs that have it."""

    schedule: Schedule
    names: Sequence[str]

    @property
    def weight(self) -> int:
        """How many jobs start at each slot."""
        return len(self.names)


@dataclass(slots=True)
class StartCounts:
    """Starts by hour and by minute from ``begin`` on."""

    begin: datetime
    hours: list[int]
    minutes: dict[datetime, list[SharedSchedule]] = field(default_factory=dict)
    frequent: int = 0
    """Jobs that start too often to be compared by minute."""
    averaged: int = 0
    """Jobs whose starts were spread evenly over the time, because they are too many to compute."""

    def pile_ups(self, number: int, least: int = 2) -> list[tuple[datetime, int, list[str]]]:
        """The minutes in which most jobs start: time, number, names. At least ``least`` jobs."""
        counted = [(sum(one.weight for one in s), minute, s) for minute, s in self.minutes.items()]
        counted.sort(key=lambda each: (-each[0], each[1]))
        return [
            (minute, total, [name for one in shared for name in one.names])
            for total, minute, shared in counted[:number]
            if total >= least
        ]


def count_starts(
    schedules: Iterable[SharedSchedule], begin: datetime, hours: int, work: int = WORK
) -> StartCounts:
    """Count the starts in the ``hours`` hours from ``begin``, a full hour.

    The schedules with the fewest slots are computed first. When ``work`` is used up, what is left
    are those that start most often, for which an average says the same.
    """
    result = StartCounts(begin, [0] * hours)
    end = begin + hours * HOUR
    before = begin - timedelta(microseconds=1)
    last = end - timedelta(microseconds=1)
    totals = [(one.schedule.count(before, last), one) for one in schedules]
    totals.sort(key=lambda each: each[0])
    for total, shared in totals:
        if not total:
            continue
        by_hour = _COUNT_COST * hours
        if total <= min(work, _PER_HOUR * hours):
            work -= total
            _add_slots(result, shared, before, end)
        elif by_hour <= work:
            work -= by_hour
            result.frequent += shared.weight
            for hour in range(hours):
                after = before + hour * HOUR
                result.hours[hour] += shared.weight * shared.schedule.count(after, after + HOUR)
        else:
            result.averaged += shared.weight
            for hour in range(hours):
                share = total * (hour + 1) // hours - total * hour // hours
                result.hours[hour] += shared.weight * share
    return result


def _add_slots(
    result: StartCounts, shared: SharedSchedule, before: datetime, end: datetime
) -> None:
    last: datetime | None = None
    slot = shared.schedule.next(before)
    while slot is not None and slot < end:
        result.hours[int((slot - result.begin) / HOUR)] += shared.weight
        minute = slot.replace(second=0, microsecond=0)
        if minute != last:  # a schedule with seconds counts once a minute
            result.minutes.setdefault(minute, []).append(shared)
            last = minute
        slot = shared.schedule.next(slot)
