"""Short waits for locks, without a session setting that stays on a pooled connection."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

from django.db import Error, transaction
from django.db.backends.signals import connection_created

from chroniker.conf import conf

from .alias import database

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

Execute = Callable[[str, Any, bool, dict[str, Any]], Any]

_SQLITE_SECONDS = 2
_IDLE = 0
"""No transaction has begun: the number in psycopg and psycopg2."""


def lock_timeout_seconds() -> int:
    """How long the scheduler waits for a lock. It repeats a transaction for five times as long."""
    return max(1, int(conf.LEASE_SECONDS / 30))


@contextmanager
def short_lock_timeout() -> Iterator[None]:
    """Make this process, but not the jobs that it starts, wait only briefly for locks.

    A lock may be held for minutes: on SQLite by a job that writes, on other databases by a frozen
    process. Meanwhile the supervisor has to renew leases, read pipes and carry out stop requests,
    so it retries later.

    Behind a pooler such as PgBouncer, the next transaction on the same connection may be anyone's.
    So PostgreSQL gets the limit with each transaction, and MariaDB with each statement.
    """
    connection = database()
    limits = {"postgresql": _postgresql_limit, "mysql": _mysql_limit, "sqlite": _sqlite_limit}
    limit = limits.get(connection.vendor)
    with limit(connection) if limit else nullcontext():
        yield


@contextmanager
def short_row_lock_timeout() -> Iterator[None]:
    """The same, but not on SQLite, which has a limit of its own and locks the whole file.

    For the first statements of a tick, which would otherwise wait without end for the row of its
    host while a frozen tick has locked it.
    """
    with nullcontext() if database().vendor == "sqlite" else short_lock_timeout():
        yield


@contextmanager
def _postgresql_limit(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Begin each transaction with the limit, and make one for a single write."""
    process = os.getpid()

    def limit(execute: Execute, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        if os.getpid() != process:  # a job, which has inherited the wrapper
            return execute(sql, params, many, context)
        if not connection.get_autocommit():
            _set_for_transaction(connection)
            return execute(sql, params, many, context)
        if not _may_wait(sql):
            return execute(sql, params, many, context)
        with transaction.atomic(using=connection.alias):
            _set_for_transaction(connection)
            return execute(sql, params, many, context)

    with connection.execute_wrapper(limit):
        yield


def _set_for_transaction(connection: BaseDatabaseWrapper) -> None:
    raw = connection.connection
    if raw.info.transaction_status != _IDLE:
        return  # not the first statement
    with connection.wrap_database_errors, raw.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = '{lock_timeout_seconds()}s'")


@contextmanager
def _mysql_limit(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Put the limit in front of each statement that may wait.

    MySQL has no such syntax, unlike MariaDB. There the limit is set for the connection, and taken
    back at the end.
    """
    process = os.getpid()
    limited: object = None

    def limit(execute: Execute, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        nonlocal limited
        if many or not _may_wait(sql) or os.getpid() != process:
            return execute(sql, params, many, context)
        variable = f"innodb_lock_wait_timeout = {lock_timeout_seconds()}"
        if getattr(connection, "mysql_is_mariadb", False):
            sql = f"SET STATEMENT {variable} FOR {sql}"
        elif limited is not connection.connection:
            with connection.cursor() as cursor:
                cursor.execute(f"SET SESSION {variable}")
            limited = connection.connection
        return execute(sql, params, many, context)

    with connection.execute_wrapper(limit):
        try:
            yield
        finally:
            if limited is not None and limited is connection.connection:
                with suppress(Error), connection.cursor() as cursor:
                    cursor.execute("SET SESSION innodb_lock_wait_timeout = DEFAULT")


def _may_wait(sql: str) -> bool:
    """Whether a statement may wait for the lock of a row."""
    return sql.startswith(("UPDATE", "INSERT", "DELETE")) or " FOR UPDATE" in sql


@contextmanager
def _sqlite_limit(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Limit the connection, which no other process uses, and take it back at the end."""
    process = os.getpid()
    before: list[int] = []

    def shorten(connection: BaseDatabaseWrapper, **_: object) -> None:
        if connection.alias == alias and os.getpid() == process:
            raw = connection.connection
            before.append(raw.execute("PRAGMA busy_timeout").fetchone()[0])
            raw.execute(f"PRAGMA busy_timeout = {_SQLITE_SECONDS * 1000}")

    alias = connection.alias
    connection_created.connect(shorten)
    if connection.connection is not None:
        shorten(connection)
    try:
        yield
    finally:
        connection_created.disconnect(shorten)
        if connection.connection is not None and before and os.getpid() == process:
            connection.connection.execute(f"PRAGMA busy_timeout = {before[0]}")
