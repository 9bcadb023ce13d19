"""A database that may be away for a while: try again later, and say it once."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, connection
from django.db.backends.signals import connection_created

from chroniker.conf import conf
from chroniker.exceptions import DatabaseNotReady

from .transactions import drop_connection, is_outage

logger = logging.getLogger(__name__)

_MAX_WAIT_SECONDS = 5.0
_LOCK_TIMEOUT_STATEMENTS = {
    "sqlite": "PRAGMA busy_timeout = 2000",
    "postgresql": "SET lock_timeout = '{seconds}s'",
    "mysql": "SET SESSION innodb_lock_wait_timeout = {seconds}",
}


class Backoff:
    """Does things with the database, waiting longer after each failure in a row."""

    def __init__(self) -> None:
        self._retry_at = 0.0
        self._failures = 0

    @property
    def waiting(self) -> bool:
        """Whether it is too early to try again."""
        return time.monotonic() < self._retry_at

    def attempt(self, action: Callable[[], Any], *, log: bool = True) -> Exception | None:
        """Run ``action`` now; what the database said if it failed. Other errors are raised.

        ``tell``: log it, an outage only when it begins.
        """
        try:
            action()
        except (DatabaseError, InterfaceError) as error:
            self._failures += 1
            wait = min(_MAX_WAIT_SECONDS, 0.1 * 2 ** min(self._failures, 10))
            self._retry_at = time.monotonic() + wait
            drop_connection()
            if log and not is_outage(error):
                logger.exception("The database refused a statement")
            elif log and self._failures == 1:
                logger.warning("Trying again, because: %s", describe_error(error))
            return error
        self._failures = 0
        return None


def describe_error(error: Exception) -> str:
    """One line for a person: what is wrong with the database and what to do."""
    reason = " ".join(str(error).split()) or type(error).__name__
    missing = ("no such table", "no such column", "doesn't exist", "does not exist")
    if is_outage(error) and not any(words in reason for words in missing):
        return f"The database cannot be reached: {reason}"
    if any(words in reason for words in missing) or "Unknown column" in reason:
        return f"The tables of Chroniker are missing or old; run `manage.py migrate`: {reason}"
    return f"The database refused a statement: {reason}"


@contextmanager
def readable_database_errors() -> Iterator[None]:
    """Raise DatabaseUnready, whose text is one line for a person, for what the database says."""
    try:
        yield
    except (DatabaseError, InterfaceError) as error:
        raise DatabaseNotReady(describe_error(error)) from error


@contextmanager
def short_lock_timeout() -> Iterator[None]:
    """Let this process wait only briefly for a lock, and not the jobs that it starts.

    Somebody may hold a lock for minutes: a job that writes, on SQLite; a frozen process, elsewhere.
    A supervisor has leases to renew, pipes to read and stop requests to obey meanwhile; it tries
    again later.
    """
    process = os.getpid()

    def shorten(connection: Any, **_: Any) -> None:
        statement = _LOCK_TIMEOUT_STATEMENTS.get(connection.vendor)
        if statement and connection.alias == DEFAULT_DB_ALIAS and os.getpid() == process:
            seconds = max(1, int(conf.LEASE_SECONDS / 6))
            with connection.cursor() as cursor:
                cursor.execute(statement.format(seconds=seconds))

    connection_created.connect(shorten)
    if connection.connection is not None:
        shorten(connection)
    try:
        yield
    finally:
        connection_created.disconnect(shorten)
