"""Every error that Chroniker raises on purpose. The message is meant for the person who reads it."""

from __future__ import annotations


class ChronikerError(Exception):
    """The base of every error raised on purpose by Chroniker."""


class ScheduleError(ChronikerError, ValueError):
    """A schedule cannot be used; the message says why and what would be accepted."""


class CommandRefused(ChronikerError):
    """A job names a command that this site does not let jobs run, or that does not exist."""


class DependencyCycle(ChronikerError, ValueError):
    """Jobs wait for one another in a circle; the message names the path."""


class DatabaseUnready(ChronikerError):
    """The database cannot be reached, or its tables are not those of this version."""


class LeaseLost(ChronikerError):
    """A run is no longer this process's to write: its lease ran out and was taken away."""
