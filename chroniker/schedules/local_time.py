"""From local time to UTC, across the changes of a time zone's offset.

A calendar knows local time ("wall time") only, in which every day has 24 hours. The functions here
convert its times to UTC. Both are whole seconds since 1970-01-01 00:00: local time is named "wall",
UTC is named "instant" or "slot".

Two rules decide what happens when local time is skipped or repeated. They are those of Debian's
cron, see cron(8), "local time changes of less than three hours":

- Once: each wall time happens once, in the first pass of a repeated hour. A time in a skipped hour
  happens at the first moment after it.
- Running: what the local clock shows counts, so a repeated hour counts twice and a skipped hour
  does not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from .base import Schedule

if TYPE_CHECKING:
    from collections.abc import Iterator
    from zoneinfo import ZoneInfo

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
DAY = 86_400

# Offsets are compared over spans of this length to find the changes.
# The closest pair of changes in the zone database since 1970 is 6.96 days apart, before that 8.
_SPAN = 2 * DAY

# Outside this range, adding or subtracting an offset may leave the range of datetime.
_EARLIEST = (datetime(2, 1, 1, tzinfo=UTC) - EPOCH) // SECOND
_LAST = (datetime(9990, 1, 1, tzinfo=UTC) - EPOCH) // SECOND


class Calendar(Protocol):
    """A set of wall times, in seconds since 1970."""

    def first(self, wall: int) -> int | None:
        """Return the earliest wall time not before `wall`."""

    def last(self, wall: int) -> int | None:
        """Return the latest wall time not after `wall`."""

    def count(self, start: int, end: int) -> int:
        """Return the number of wall times from `start`, before `end`."""


@dataclass(frozen=True, slots=True)
class LocalTimeSchedule(Schedule):
    """A schedule in the local time of its zone."""

    calendar: Calendar
    once: bool
    """Which of the two rules applies: Once (True) or Running (False)."""

    def next(self, after: datetime) -> datetime | None:
        """Return the first slot later than `after`, or None."""
        start = max(to_utc_seconds(after), _EARLIEST)
        if start >= _LAST:
            return None
        find = _next_once if self.once else _next_running
        slot = find(self.calendar, self.zone, start)
        return None if slot is None or slot > _LAST else from_utc_seconds(slot)

    def latest(self, after: datetime, until: datetime) -> datetime | None:
        """Return the last slot in (after, until], or None."""
        start, end = max(to_utc_seconds(after), _EARLIEST), min(to_utc_seconds(until), _LAST)
        if end <= start:
            return None
        find = _latest_once if self.once else _latest_running
        slot = find(self.calendar, self.zone, start, end)
        return None if slot is None else from_utc_seconds(slot)

    def count(self, after: datetime, until: datetime) -> int:
        """Return the number of slots in (after, until]."""
        start, end = max(to_utc_seconds(after), _EARLIEST), min(to_utc_seconds(until), _LAST)
        if end <= start:
            return 0
        add_up = _count_once if self.once else _count_running
        return add_up(self.calendar, self.zone, start, end)


def to_utc_seconds(when: datetime) -> int:
    """Return an aware datetime as whole seconds since 1970 UTC, rounded down."""
    if when.tzinfo is None:
        msg = "A schedule needs an aware datetime, but this one has no time zone."
        raise ValueError(msg)
    return (when - EPOCH) // SECOND


def from_utc_seconds(instant: int) -> datetime:
    """Return seconds since 1970 UTC as an aware datetime."""
    return EPOCH + timedelta(seconds=instant)


def to_local_seconds(shown: datetime) -> int:
    """Return a naive local datetime as seconds of wall time."""
    return (shown.replace(tzinfo=UTC) - EPOCH) // SECOND


def from_local_seconds(wall: int) -> datetime:
    """Return seconds of wall time as a naive local datetime."""
    return (EPOCH + timedelta(seconds=wall)).replace(tzinfo=None)


def _offset(zone: ZoneInfo, instant: int) -> int:
    return _offset_seconds(datetime.fromtimestamp(instant, zone).utcoffset())


def _offset_seconds(offset: timedelta | None) -> int:
    assert offset is not None
    return offset.days * DAY + offset.seconds


def _find_change(zone: ZoneInfo, before: int, after: int) -> int:
    """Return the first instant with the offset of `after`; there must be exactly one change."""
    offset = _offset(zone, after)
    while after - before > 1:
        middle = (before + after) // 2
        if _offset(zone, middle) == offset:
            after = middle
        else:
            before = middle
    return after


def _changes(zone: ZoneInfo, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield the changes in (start, end]: the instant, the offset before, the offset after."""
    offset = _offset(zone, start)
    while start < end:
        stop = min(start + _SPAN, end)
        new = _offset(zone, stop)
        if new != offset:
            yield _find_change(zone, start, stop), offset, new
            offset = new
        start = stop


def _latest_local_seconds(zone: ZoneInfo, instant: int) -> int:
    """Return the latest wall time that the local clock has shown at or before `instant`."""
    local = datetime.fromtimestamp(instant, zone)
    offset = _offset_seconds(local.utcoffset())
    if not local.fold:
        return instant + offset
    before = _offset_seconds(local.replace(fold=0).utcoffset())
    return _find_change(zone, instant - (before - offset), instant) + before - 1


def _first_pass(zone: ZoneInfo, wall: int) -> int:
    """Return the first instant at which the local clock shows `wall`, or has skipped it."""
    local = (EPOCH + timedelta(seconds=wall)).replace(tzinfo=zone)
    # In a skipped hour, fold=0 uses the offset before the change and fold=1 the one after it.
    before = _offset_seconds(local.utcoffset())
    instant = wall - before
    if _offset(zone, instant) == before:
        return instant
    return _find_change(zone, wall - _offset_seconds(local.replace(fold=1).utcoffset()), instant)


def _next_once(calendar: Calendar, zone: ZoneInfo, after: int) -> int | None:
    wall = calendar.first(_latest_local_seconds(zone, after) + 1)
    return None if wall is None or wall > _LAST else _first_pass(zone, wall)


def _latest_once(calendar: Calendar, zone: ZoneInfo, after: int, until: int) -> int | None:
    wall = calendar.last(_latest_local_seconds(zone, until))
    if wall is None or wall < _EARLIEST:
        return None
    slot = _first_pass(zone, wall)
    return slot if slot > after else None


def _count_once(calendar: Calendar, zone: ZoneInfo, after: int, until: int) -> int:
    total = calendar.count(
        _latest_local_seconds(zone, after) + 1, _latest_local_seconds(zone, until) + 1
    )
    if not total:
        return 0
    for instant, before, new in _changes(zone, after, until):
        if new > before:
            # All skipped times, and a time directly after them, are one slot.
            together = calendar.count(instant + before, instant + new + 1)
            total -= max(together - 1, 0)
    return total


def _next_running(calendar: Calendar, zone: ZoneInfo, after: int) -> int | None:
    start = after + 1
    while True:
        offset = _offset(zone, start)
        wall = calendar.first(start + offset)
        if wall is None or wall > _LAST:
            return None
        slot = wall - offset
        probe = min(slot, start + _SPAN)
        if _offset(zone, probe) != offset:
            start = _find_change(zone, start, probe)
        elif probe == slot:
            return slot
        else:
            # No time before this span matches, whatever the offset is until then.
            start = slot - _SPAN


def _latest_running(calendar: Calendar, zone: ZoneInfo, after: int, until: int) -> int | None:
    end = until
    while end > after:
        offset = _offset(zone, end)
        wall = calendar.last(end + offset)
        if wall is None or wall < _EARLIEST:
            return None
        slot = wall - offset
        probe = max(slot, end - _SPAN)
        if _offset(zone, probe) != offset:
            end = _find_change(zone, probe, end) - 1
        elif probe == slot:
            return slot if slot > after else None
        else:
            end = slot + _SPAN
    return None


def _count_running(calendar: Calendar, zone: ZoneInfo, after: int, until: int) -> int:
    total = 0
    start = after + 1
    for instant, before, _ in _changes(zone, after, until):
        total += calendar.count(start + before, instant + before)
        start = instant
    offset = _offset(zone, until)
    return total + calendar.count(start + offset, until + offset + 1)
