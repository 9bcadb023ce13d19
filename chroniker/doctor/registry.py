"""The examinations: those of Chroniker, and those that other apps register."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from pathlib import Path

from django.utils.timezone import now as utc_now

from .findings import Area, Finding

MODULE = "chroniker_doctor"
"""The module of an app that registers its examinations."""


class Needs(IntEnum):
    """What an examination needs. It is left out if that is missing."""

    NOTHING = 0
    DATABASE = 1
    """A connection to the database."""
    TABLES = 2
    """All migrations of Chroniker."""


@dataclass(frozen=True, slots=True)
class Installation:
    """What the doctor was told about the installation."""

    clock: Callable[[], datetime] = utc_now
    """The clock of this host."""
    test_address: str = ""
    """Where a test email is sent; empty: nowhere."""
    monitoring_folders: tuple[Path, ...] = ()
    """Folders that ``export_monitoring`` has written."""
    crontabs: tuple[Path, ...] = (Path("/etc/crontab"), Path("/etc/cron.d"))
    """The system's crontabs: files, or directories of files."""
    user_crontab: bool = True
    """Whether to read the crontab of the user."""


Examination = Callable[[Installation], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Entry:
    """An examination with what it needs."""

    area: Area
    needs: Needs
    examine: Examination = field(repr=False)


_entries: list[Entry] = []


def examination(area: Area, needs: Needs = Needs.NOTHING) -> Callable[[Examination], Examination]:
    """Register a function that yields findings about an installation."""

    def register(function: Examination) -> Examination:
        _entries.append(Entry(area, needs, function))
        return function

    return register


def entries() -> list[Entry]:
    """Return all examinations."""
    return list(_entries)
