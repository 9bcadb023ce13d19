"""The exceptions of Chroniker. Their messages say what is wrong and what to do."""

from __future__ import annotations

from typing import Literal


class ChronikerError(Exception):
    """Base of all exceptions that Chroniker raises."""

    exit_code = 1
    """The exit code of a command that ends with it."""


class ScheduleError(ChronikerError, ValueError):
    """A schedule cannot be used.

    `field` is the field of the job that is wrong. `reason`, which is also the message, says what
    is wrong and what would be accepted.
    """

    def __init__(
        self, reason: str, *, field: Literal["schedule", "timezone", "finish_by"] = "schedule"
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.field = field


class CommandRefused(ChronikerError):
    """The job's command does not exist, or the site does not allow jobs to run it."""


class TaskNotSuccessful(ChronikerError):
    """A task that was enqueued has failed, or its result was lost: nobody knows how it ended."""

    def __init__(self, reason: str, *, lost: bool = False) -> None:
        super().__init__(reason)
        self.lost = lost


class HostNotReady(ChronikerError):
    """This host cannot run jobs as it is configured."""


class ExecutorNotReady(ChronikerError):
    """Runs cannot be handed over to workers now, or at all as the site is configured."""


class OpenTransaction(ChronikerError):
    """Jobs cannot be started, because a transaction is open on the database `alias`."""

    def __init__(self, alias: str) -> None:
        super().__init__(
            f"A transaction is open on the database {alias!r}. Jobs run in processes of their own, "
            "which do not see its changes and may wait for its locks. Start them after "
            "transaction.atomic() has ended; in tests, use TransactionTestCase (pytest: "
            "transactional_db) instead of TestCase."
        )
        self.alias = alias


class HostBusy(ChronikerError):
    """A host cannot be retired, because it owns runs."""

    def __init__(self, host: str, runs: int) -> None:
        super().__init__(
            f"Host {host} owns running runs ({runs}). Stop them, or wait: if the host is dead, "
            "their leases run out within CHRONIKER_LEASE_SECONDS."
        )
        self.host = host
        self.runs = runs


class NewerSchema(ChronikerError):
    """A newer version of Chroniker has migrated the database, so this one starts nothing."""

    exit_code = 4

    def __init__(self, version: str) -> None:
        super().__init__(
            f"The database was migrated by a newer version of Chroniker than {version}, which runs "
            "here. Nothing is started. Update this host, and restart its cronserver."
        )
        self.version = version


class DatabaseNotReady(ChronikerError):
    """The database cannot be reached, or its tables do not match this version."""
