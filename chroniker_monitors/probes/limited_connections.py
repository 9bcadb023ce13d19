"""Database connections with statement timeouts set in the database, and read-only ones."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from django.db import Error, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from chroniker_monitors.exceptions import ProbeError

from .time_limit import remaining_seconds

_REUSABLE = ("postgresql", "mysql")
"""On SQLite, opening the file again costs next to nothing."""
_SQLITE_PROGRESS_STEPS = 10_000
"""Instructions of SQLite's virtual machine between two checks of the time: about 1 ms."""


_kept: dict[str, BaseDatabaseWrapper] | None = None
"""Read-only connections that are used again, by alias; None: each is closed after its use."""


def keep_connections() -> None:
    """Use read-only connections of this process, and of its forks, for many statements.

    Connecting costs more than most statements. For processes that measure many monitors.
    """
    global _kept
    _kept = {} if _kept is None else _kept


@contextmanager
def limited_connection(alias: str) -> Iterator[BaseDatabaseWrapper]:
    """The site's connection, with the probe's time limit for statements. Always rolled back."""
    connection = connections[alias]
    if connection.vendor == "sqlite":
        # No transaction: a site may configure transactions to take the write lock immediately.
        with _statement_limit(connection):
            yield connection
        return
    with transaction.atomic(using=alias):
        try:
            with _statement_limit(connection):
                yield connection
        finally:
            transaction.set_rollback(True, using=alias)


@contextmanager
def open_connection(alias: str, *, read_only: bool) -> Iterator[BaseDatabaseWrapper]:
    """A new connection, closed at the end of the block.

    ``read_only``: the database rejects writes, and ends each statement at the probe's time limit.
    Otherwise nothing but the caller's own statements is sent.
    """
    if alias not in connections:
        raise ProbeError(
            f"There is no database {alias!r}. DATABASES has: {', '.join(connections)}."
        )
    if read_only and _kept is not None and connections[alias].vendor in _REUSABLE:
        with _kept_connection(alias) as connection:
            yield connection
        return
    connection = connections[alias].copy()
    _prepare(connection)
    try:
        with connection.wrap_database_errors:
            connection.connect()
        if not read_only:
            yield connection
            return
        if connection.vendor == "sqlite":
            with _statement_limit(connection), _sqlite_read_only(connection):
                yield connection
            return
        # The transaction ends with the connection.
        _begin_read_only(connection)
        with _statement_limit(connection):
            yield connection
    finally:
        connection.close()


@contextmanager
def _kept_connection(alias: str) -> Iterator[BaseDatabaseWrapper]:
    """A read-only connection that stays open, unless something went wrong in the block."""
    assert _kept is not None
    connection = _kept.pop(alias, None)
    if connection is not None:
        try:
            _begin_read_only(connection)
        except Error:  # the server has closed it since
            connection.close()
            connection = None
    try:
        if connection is None:
            connection = connections[alias].copy()
            _prepare(connection)
            with connection.wrap_database_errors:
                connection.connect()
            _begin_read_only(connection)
        with _statement_limit(connection):
            yield connection
        with connection.cursor() as cursor:
            cursor.execute("ROLLBACK")  # also what the statement may have set in its session
    except BaseException:
        if connection is not None:
            connection.close()
        raise
    _kept[alias] = connection


def _prepare(connection: BaseDatabaseWrapper) -> None:
    """Set the driver's options: connection timeout, and one statement per call."""
    options = connection.settings_dict["OPTIONS"]
    seconds = max(math.ceil(remaining_seconds()), 1)
    if connection.vendor == "postgresql":
        options.pop("pool", None)  # a pooled connection is not a new one
        options["connect_timeout"] = max(seconds, 2)  # libpq treats 1 as 2
    elif connection.vendor == "mysql":
        options["connect_timeout"] = seconds
        options["read_timeout"] = seconds + 1
        options["write_timeout"] = seconds + 1
        options["multi_statements"] = False
    elif connection.vendor == "sqlite":
        options["timeout"] = min(seconds, options.get("timeout", 5))
        path = Path(connection.settings_dict["NAME"])
        if path.is_absolute() and not path.exists():
            raise ProbeError(f"There is no file {path}.")  # SQLite would create an empty one


def _begin_read_only(connection: BaseDatabaseWrapper) -> None:
    begin = {
        "postgresql": "BEGIN TRANSACTION READ ONLY",
        "mysql": "START TRANSACTION READ ONLY",
    }.get(connection.vendor)
    if begin is None:
        raise ProbeError(
            f"Read-only access is not supported on {connection.vendor}. Use PostgreSQL, MariaDB, "
            "MySQL or SQLite."
        )
    with connection.cursor() as cursor:
        cursor.execute(begin)


@contextmanager
def _statement_limit(connection: BaseDatabaseWrapper) -> Iterator[None]:
    milliseconds = max(int(remaining_seconds() * 1000), 1)
    if connection.vendor == "sqlite":
        with _sqlite_limit(connection):
            yield
        return
    if connection.vendor == "postgresql":
        # LOCAL: it ends with the transaction; PgBouncer gives sessions to other clients.
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = {milliseconds}")
        yield
        return
    if connection.vendor != "mysql":
        yield
        return
    mariadb = getattr(connection, "mysql_is_mariadb", False)
    name = "max_statement_time" if mariadb else "max_execution_time"
    limit = f"{milliseconds / 1000:.3f}" if mariadb else str(milliseconds)
    with connection.cursor() as cursor:
        cursor.execute(f"SET @chroniker_limit = @@SESSION.{name}, SESSION {name} = {limit}")
    try:
        yield
    finally:
        if connection.connection is not None:
            with suppress(Error), connection.cursor() as cursor:
                cursor.execute(f"SET SESSION {name} = @chroniker_limit")


@contextmanager
def _sqlite_limit(connection: BaseDatabaseWrapper) -> Iterator[None]:
    connection.ensure_connection()
    raw = connection.connection
    (busy_timeout,) = raw.execute("PRAGMA busy_timeout").fetchone()
    left = remaining_seconds()
    deadline = time.monotonic() + left
    # Python runs no signal handler while SQLite waits for a lock.
    raw.execute(f"PRAGMA busy_timeout = {min(busy_timeout, int(left * 1000))}")
    raw.set_progress_handler(lambda: time.monotonic() > deadline, _SQLITE_PROGRESS_STEPS)
    try:
        yield
    finally:
        raw.set_progress_handler(None, 0)
        raw.execute(f"PRAGMA busy_timeout = {busy_timeout}")


@contextmanager
def _sqlite_read_only(connection: BaseDatabaseWrapper) -> Iterator[None]:
    import sqlite3

    allowed = {
        sqlite3.SQLITE_SELECT,
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_FUNCTION,
        sqlite3.SQLITE_RECURSIVE,
    }
    raw = connection.connection
    raw.execute("PRAGMA query_only = ON")

    # The statement must not attach another file or turn query_only off.
    def authorize(action: int, *details: object) -> int:
        return sqlite3.SQLITE_OK if action in allowed else sqlite3.SQLITE_DENY

    raw.set_authorizer(authorize)
    try:
        yield
    finally:
        raw.set_authorizer(None)
