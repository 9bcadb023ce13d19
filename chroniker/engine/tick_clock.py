"""The time of a tick: the database's clock, on which all hosts agree."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from chroniker.db.clock import boottime


class TickClock:
    """The database's clock as it was last read, advanced by this host's CLOCK_BOOTTIME.

    Changes to the host's own wall clock do not move it. ``pinned`` replaces the first reading, for
    tests.
    """

    __slots__ = ("_read_at", "_time", "pinned")

    def __init__(self, pinned: datetime | None = None) -> None:
        self.pinned = pinned
        self._time = pinned or datetime.now(UTC)
        self._read_at = boottime()

    def set(self, time: datetime, read_at: float) -> None:
        """Set the time: ``time`` was the database's at ``read_at`` (CLOCK_BOOTTIME, seconds)."""
        self._time, self._read_at = time, read_at

    def now(self) -> datetime:
        """The current time, UTC."""
        return self._time + timedelta(seconds=boottime() - self._read_at)
