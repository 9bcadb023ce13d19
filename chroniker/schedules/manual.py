"""No schedule at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from chroniker.schedules.base import Schedule

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Manual(Schedule):
    """The empty text: the job never becomes due by itself."""

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
        """Say what starts the job instead."""
        return "Only by hand, or when a job it depends on ends"
