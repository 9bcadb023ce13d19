"""The interface of every kind of schedule."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from datetime import datetime
    from zoneinfo import ZoneInfo

_LONG = timedelta(days=400)
"""Longer than the gap between two slots of a yearly schedule."""


@dataclass(frozen=True, slots=True)
class Schedule(ABC):
    """When a job starts: a text, interpreted in a time zone.

    A slot is one moment at which the job is due, as an aware UTC datetime. All methods take aware
    datetimes (ValueError for naive ones) and do not read the clock.
    """

    kind: ClassVar[str]
    """`cron`, `interval`, `recurrence` or `manual`."""

    text: str
    zone: ZoneInfo

    @abstractmethod
    def next(self, after: datetime) -> datetime | None:
        """Return the first slot later than `after`, or None if there is none."""

    @abstractmethod
    def latest(self, after: datetime, until: datetime) -> datetime | None:
        """Return the last slot later than `after` and not later than `until`, or None."""

    @abstractmethod
    def count(self, after: datetime, until: datetime) -> int:
        """Return how many slots are later than `after` and not later than `until`."""

    @abstractmethod
    def explain(self) -> str:
        """Return the schedule as an English sentence."""

    def warnings(self) -> list[str]:
        """Return warnings about what is allowed but is often a mistake."""
        return []

    def warnings_at(self, now: datetime) -> list[str]:
        """Return the same, and a warning if it is not due for a long time."""
        found = self.warnings()
        slot = self.next(now)
        if slot is not None and slot - now > _LONG:
            years = round((slot - now).days / 365.25)
            found.append(
                f"It is not due before {slot.astimezone(self.zone):%Y-%m-%d}, in"
                f" {years} year{'' if years == 1 else 's'}."
            )
        return found

    def never(self) -> str:
        """Return a sentence that says why it is never due; empty if there is none."""
        return ""

    def upcoming(self, after: datetime, n: int = 5) -> list[datetime]:
        """Return the first `n` slots later than `after`; fewer if the schedule ends."""
        slots: list[datetime] = []
        slot = self.next(after)
        while slot is not None and len(slots) < n:
            slots.append(slot)
            slot = self.next(slot)
        return slots
