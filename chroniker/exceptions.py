"""Every error that Chroniker raises on purpose, with a message for the person who reads it."""

from __future__ import annotations

from typing import Literal


class ChronikerError(Exception):
    """The base of every error raised on purpose by Chroniker."""


class ScheduleError(ChronikerError, ValueError):
    """A schedule cannot be used.

    `field` is the field of the job that is wrong. `reason`, which is also the message, says what
    is wrong and what would be accepted.
    """

    def __init__(self, reason: str, *, field: Literal["schedule", "timezone"] = "schedule") -> None:
        super().__init__(reason)
        self.reason = reason
        self.field = field


class CommandRefused(ChronikerError):
    """A job names a command that this site does not let jobs run, or that does not exist."""


class HostNotReady(ChronikerError):
    """This machine cannot run jobs as it is set up."""


class DatabaseNotReady(ChronikerError):
    """The database cannot be reached, or its tables are not those of this version."""
