"""Transactions that are retried after transient errors, and the classes of database errors."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import DatabaseError, InterfaceError, OperationalError

from chroniker.conf import conf

from .alias import atomic, database

T = TypeVar("T")

_TRANSIENT_SQLSTATES = {"40001", "40P01", "55P03"}
"""PostgreSQL: serialization_failure, deadlock_detected, lock_not_available."""
_TRANSIENT_MYSQL = {1020, 1205, 1213}
"""Record has changed since last read, lock wait timeout, deadlock."""
_TRANSIENT_SQLITE = {5, 6}
"""SQLITE_BUSY, SQLITE_LOCKED. Not from the module sqlite3: other sites do not import it."""
_LOCK_SQLSTATE = "55P03"
_LOCK_MYSQL = {1205, 3572}
"""Lock wait timeout, and a lock that NOWAIT did not get (MySQL)."""
_LOCK_WAITS = 2
"""How often a transaction waits for a lock of rows: the scheduler has other rows to look after."""
_SCHEMA_SQLSTATES = {"42P01", "42703"}
"""PostgreSQL: undefined_table, undefined_column."""
_FORBIDDEN_SQLSTATE = "42501"
_FORBIDDEN_MYSQL = {1142, 1143}
"""The command is denied for a table, for a column."""
_SCHEMA_MYSQL = {1054, 1146}
"""Unknown column, table does not exist."""


def is_transient(error: BaseException) -> bool:
    """Return whether the same transaction may succeed if it is repeated at once."""
    cause = error.__cause__ or error
    if getattr(cause, "sqlstate", None) in _TRANSIENT_SQLSTATES:
        return True
    if database().vendor == "mysql":
        return _mysql_code(cause) in _TRANSIENT_MYSQL
    return _is_sqlite_busy(cause)


def is_locked(error: BaseException) -> bool:
    """Return whether a transaction waited too long for the lock of another one."""
    cause = error.__cause__ or error
    if getattr(cause, "sqlstate", None) == _LOCK_SQLSTATE:
        return True
    if database().vendor == "mysql":
        return _mysql_code(cause) in _LOCK_MYSQL
    return _is_sqlite_busy(cause)


def is_row_locked(error: BaseException) -> bool:
    """Return whether the lock was one of rows, so that work on other rows can continue."""
    return is_locked(error) and database().vendor != "sqlite"


def _is_sqlite_busy(cause: BaseException) -> bool:
    # The low byte of an extended result code is the primary one.
    code = getattr(cause, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _TRANSIENT_SQLITE


def is_missing_schema(error: BaseException) -> bool:
    """Return whether a table or a column does not exist."""
    cause = error.__cause__ or error
    if getattr(cause, "sqlstate", None) in _SCHEMA_SQLSTATES:
        return True
    if database().vendor == "mysql":
        return _mysql_code(cause) in _SCHEMA_MYSQL
    # SQLite has no error code for this, only the message.
    return database().vendor == "sqlite" and str(cause).startswith(
        ("no such table", "no such column")
    )


def is_forbidden(error: BaseException) -> bool:
    """Return whether the role may not read or write a table."""
    cause = error.__cause__ or error
    if getattr(cause, "sqlstate", None) == _FORBIDDEN_SQLSTATE:
        return True
    return database().vendor == "mysql" and _mysql_code(cause) in _FORBIDDEN_MYSQL


def _mysql_code(cause: BaseException) -> object:
    return cause.args[0] if cause.args else None


def is_outage(error: BaseException) -> bool:
    """Return whether the error is an outage: the database is unreachable, busy or full."""
    return isinstance(error, OperationalError | InterfaceError)


def run_transaction(action: Callable[[], T], *, attempts: int = 6) -> T:
    """Run ``action`` in its own transaction, and repeat it as a whole on a transient error.

    Inside another transaction (``ATOMIC_REQUESTS``) it is not repeated: only the outer one can be.

    It is not repeated for longer than a sixth of a lease, because the caller has leases to renew.

    After an outage the connection is closed, so that the next use opens a new one, and the error
    is raised. The transaction may or may not have been committed; only the caller can find out.
    """
    if database().in_atomic_block:
        with atomic():
            return action()
    give_up_at = time.monotonic() + conf.LEASE_SECONDS / 6
    for attempt in range(1, attempts + 1):
        try:
            with atomic():
                return action()
        except DatabaseError as error:
            transient = is_transient(error)
            if is_outage(error) and not transient:
                drop_connection()
            enough = attempts if not is_row_locked(error) else min(attempts, _LOCK_WAITS)
            if not transient or attempt >= enough or time.monotonic() > give_up_at:
                raise
        except InterfaceError:
            drop_connection()
            raise
        time.sleep(random.uniform(0.5, 1) * 0.01 * 2**attempt)  # noqa: S311
    raise AssertionError("unreachable")


def drop_connection() -> None:
    """Close the connection in any state."""
    connection = database()
    try:
        connection.close()
    except (DatabaseError, InterfaceError):
        connection.connection = None
