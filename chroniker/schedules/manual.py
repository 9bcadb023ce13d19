"""The empty schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from chroniker.schedules.base import Schedule

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Manual(Schedule):
    """The empty text: the job never becomes due by time."""

    kind: ClassVar[str] = "manual"

    def next(self, after: datetime) -> datetime | None:
        """Return None."""
        return None

    def latest(self, after: datetime, until: datetime) -> datetime | None:
        """Return None."""
        return None

    def count(self, after: datetime, until: datetime) -> int:
        """Return 0."""
        return 0

    def explain(self) -> str:
        """Return what starts the job instead."""
        return "Only manually, or after a job that it depends on"
