"""Transactions that are retried after transient errors, and the classes of database errors."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import DatabaseError, InterfaceError, OperationalError, connection, transaction

from chroniker.conf import conf

T = TypeVar("T")

_TRANSIENT_SQLSTATES = {"40001", "40P01", "55P03"}
"""PostgreSQL: serialization_failure, deadlock_detected, lock_not_available."""
_TRANSIENT_MYSQL = {1020, 1205, 1213}
"""Record has changed since last read, lock wait timeout, deadlock."""
_TRANSIENT_SQLITE = {5, 6}
"""SQLITE_BUSY, SQLITE_LOCKED. Not from the module sqlite3: other sites do not import it."""
_SCHEMA_SQLSTATES = {"42P01", "42703"}
"""PostgreSQL: undefined_table, undefined_column."""
_SCHEMA_MYSQL = {1054, 1146}
"""Unknown column, table does not exist."""


def is_transient(error: DatabaseError) -> bool:
    """Return whether the same transaction may succeed if it is repeated at once."""
    cause = error.__cause__ or error
    if getattr(cause, "sqlstate", None) in _TRANSIENT_SQLSTATES:
        return True
    if connection.vendor == "mysql":
        return _mysql_code(cause) in _TRANSIENT_MYSQL
    # The low byte of an extended result code is the primary one.
    code = getattr(cause, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _TRANSIENT_SQLITE


def is_missing_schema(error: BaseException) -> bool:
    """Return whether a table or a column does not exist."""
    cause = error.__cause__ or error
    if getattr(cause, "sqlstate", None) in _SCHEMA_SQLSTATES:
        return True
    if connection.vendor == "mysql":
        return _mysql_code(cause) in _SCHEMA_MYSQL
    # SQLite has no error code for this, only the message.
    return connection.vendor == "sqlite" and str(cause).startswith(
        ("no such table", "no such column")
    )


def _mysql_code(cause: BaseException) -> object:
    return cause.args[0] if cause.args else None


def is_outage(error: BaseException) -> bool:
    """Return whether the error is an outage: the database is unreachable, busy or full."""
    return isinstance(error, OperationalError | InterfaceError)


def run_transaction(action: Callable[[], T], *, attempts: int = 6) -> T:
    """Run ``action`` in its own transaction, and repeat it as a whole on a transient error.

    It is not repeated for longer than a sixth of a lease, because the caller has leases to renew.

    After an outage the connection is closed, so that the next use opens a new one, and the error
    is raised. The transaction may or may not have been committed; only the caller can find out.
    """
    give_up_at = time.monotonic() + conf.LEASE_SECONDS / 6
    for attempt in range(1, attempts + 1):
        try:
            with transaction.atomic():
                return action()
        except DatabaseError as error:
            transient = is_transient(error)
            if is_outage(error) and not transient:
                drop_connection()
            if not transient or attempt == attempts or time.monotonic() > give_up_at:
                raise
        except InterfaceError:
            drop_connection()
            raise
        time.sleep(random.uniform(0.5, 1) * 0.01 * 2**attempt)  # noqa: S311
    raise AssertionError("unreachable")


def drop_connection() -> None:
    """Close the connection in any state."""
    try:
        connection.close()
    except (DatabaseError, InterfaceError):
        connection.connection = None
