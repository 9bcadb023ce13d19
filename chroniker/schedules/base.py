"""The interface of every kind of schedule."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from datetime import datetime
    from zoneinfo import ZoneInfo


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

    def upcoming(self, after: datetime, n: int = 5) -> list[datetime]:
        """Return the first `n` slots later than `after`; fewer if the schedule ends."""
        slots: list[datetime] = []
        slot = self.next(after)
        while slot is not None and len(slots) < n:
            slots.append(slot)
            slot = self.next(slot)
        return slots
