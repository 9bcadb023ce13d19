"""Time limits of statements, kept by the database itself, and connections that only read."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.db import Error, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from chroniker_monitors.exceptions import ProbeError

from .measuring import remaining

_STEPS = 10_000  # of SQLite's machine between two looks at the clock: about a millisecond


@contextmanager
def limited(alias: str) -> Iterator[BaseDatabaseWrapper]:
    """The site's connection, whose statements end with the probe's time limit; rolled back."""
    connection = connections[alias]
    with transaction.atomic(using=alias):
        try:
            with _statement_limit(connection):
                yield connection
        finally:
            # PostgreSQL forgets the limit with the transaction or savepoint it was set in.
            transaction.set_rollback(True, using=alias)


@contextmanager
def own_connection(alias: str, *, read_only: bool) -> Iterator[BaseDatabaseWrapper]:
    """A new connection, closed in the end, whose statements end with the probe's time limit.

    ``read_only``: the database itself refuses to write.
    """
    if alias not in connections:
        raise ProbeError(
            f"There is no database {alias!r}; DATABASES has: {', '.join(connections)}."
        )
    connection = connections[alias].copy()
    _prepare(connection, read_only)
    try:
        with connection.wrap_database_errors:
            connection.connect()
        with _statement_limit(connection), _reading_only(connection, read_only):
            yield connection
    finally:
        connection.close()


def _prepare(connection: BaseDatabaseWrapper, read_only: bool) -> None:
    """Options of the driver: how long to wait for the connection, one statement at a time."""
    options = connection.settings_dict["OPTIONS"]
    seconds = max(math.ceil(remaining()), 1)
    connection.settings_dict["CONN_HEALTH_CHECKS"] = False
    if connection.vendor == "postgresql":
        options.pop("pool", None)  # a session that is not quite as it was must not go back
        options["connect_timeout"] = max(seconds, 2)  # libpq takes 1 for 2
        if read_only:
            given = options.get("options", "")
            options["options"] = f"{given} -c default_transaction_read_only=on".strip()
    elif connection.vendor == "mysql":
        options["connect_timeout"] = seconds
        options["read_timeout"] = seconds + 1
        options["write_timeout"] = seconds + 1
        options["multi_statements"] = False
    elif connection.vendor == "sqlite":
        options["timeout"] = min(seconds, options.get("timeout", 5))


@contextmanager
def _statement_limit(connection: BaseDatabaseWrapper) -> Iterator[None]:
    milliseconds = max(int(remaining() * 1000), 1)
    if connection.vendor == "sqlite":
        with _sqlite_limit(connection):
            yield
        return
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            local = "LOCAL " if connection.in_atomic_block else ""
            cursor.execute(f"SET {local}statement_timeout = {milliseconds}")
        elif connection.vendor == "mysql":
            cursor.execute(_mysql_limit(connection, milliseconds))
    try:
        yield
    finally:
        if connection.vendor == "mysql" and connection.connection is not None:
            with suppress(Error), connection.cursor() as cursor:
                cursor.execute(_mysql_limit(connection, None))


def _mysql_limit(connection: Any, milliseconds: int | None) -> str:
    if connection.mysql_is_mariadb:
        limit = "DEFAULT" if milliseconds is None else f"{milliseconds / 1000:.3f}"
        return f"SET SESSION max_statement_time = {limit}"
    limit = "DEFAULT" if milliseconds is None else str(milliseconds)
    return f"SET SESSION max_execution_time = {limit}"


@contextmanager
def _sqlite_limit(connection: BaseDatabaseWrapper) -> Iterator[None]:
    connection.ensure_connection()
    raw = connection.connection
    deadline = time.monotonic() + remaining()
    raw.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
    try:
        yield
    finally:
        raw.set_progress_handler(None, 0)


@contextmanager
def _reading_only(connection: BaseDatabaseWrapper, read_only: bool) -> Iterator[None]:
    if not read_only:
        yield
        return
    if connection.vendor == "sqlite":
        _sqlite_read_only(connection)
        yield
        return
    begin = {
        "postgresql": "BEGIN TRANSACTION READ ONLY",
        "mysql": "START TRANSACTION READ ONLY",
    }.get(connection.vendor)
    if begin is None:
        raise ProbeError(
            f"Statements cannot be kept from writing on {connection.vendor}; PostgreSQL, MariaDB, "
            "MySQL and SQLite can."
        )
    with connection.cursor() as cursor:
        cursor.execute(begin)
    yield  # nobody ends the transaction; the connection is closed


def _sqlite_read_only(connection: BaseDatabaseWrapper) -> None:
    import sqlite3

    allowed = {
        sqlite3.SQLITE_SELECT,
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_FUNCTION,
        sqlite3.SQLITE_RECURSIVE,
    }
    raw = connection.connection
    raw.execute("PRAGMA query_only = ON")

    # Nor may it attach another file, or turn query_only off again.
    def authorize(action: int, *details: object) -> int:
        return sqlite3.SQLITE_OK if action in allowed else sqlite3.SQLITE_DENY

    raw.set_authorizer(authorize)
