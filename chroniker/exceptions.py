"""Every error that Chroniker raises on purpose, with a message for the person who reads it."""

from __future__ import annotations


class ChronikerError(Exception):
    """The base of every error raised on purpose by Chroniker."""


class ScheduleError(ChronikerError, ValueError):
    """A schedule cannot be used; the message says why and what would be accepted."""


class CommandRefused(ChronikerError):
    """A job names a command that this site does not let jobs run, or that does not exist."""


class HostNotReady(ChronikerError):
    """This machine cannot run jobs as it is set up."""


class DatabaseNotReady(ChronikerError):
    """The database cannot be reached, or its tables are not those of this version."""
