"""What an examination finds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    """As it should be."""
    WARNING = "warning"
    """It works, but something is lost, late or unseen."""
    ERROR = "error"
    """Jobs do not run, or nobody is notified."""

    @property
    def exit_code(self) -> int:
        """The exit code of the command if this is the worst finding."""
        return list(Level).index(self)


class Area(StrEnum):
    """What was examined, in the order of the report."""

    DATABASE = "database"
    MIGRATIONS = "migrations"
    SETTINGS = "settings"
    TASKS = "tasks"
    TICKS = "ticks"
    CRON = "cron"
    MAIL = "mail"
    METRICS = "metrics"
    RULES = "rules"
    CLOCK = "clock"
    LEFTOVERS = "leftovers"
    DOCTOR = "doctor"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about the installation. ``id`` is stable, for machines."""

    area: Area
    id: str
    level: Level
    message: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        """The finding as JSON."""
        return {
            "area": str(self.area),
            "id": self.id,
            "level": str(self.level),
            "message": self.message,
            "remedy": self.remedy,
        }


def worst(findings: Iterable[Finding]) -> Level:
    """Return the level of the worst finding."""
    return max((finding.level for finding in findings), key=list(Level).index, default=Level.OK)
