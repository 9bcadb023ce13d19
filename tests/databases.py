"""Test databases: one per pytest process, created once, emptied fast.

**Slots.** A pytest process (a worker of xdist, or a second run in another terminal) takes the
first free slot and with it the database ``test_chroniker_<slot>``; a lock that the kernel drops
with the process marks it as taken. So runs never meet, and there are never more databases than
processes at one time.

**Emptying.** Tests whose jobs are real processes cannot hide in a transaction that is rolled
back. Django empties all tables with TRUNCATE and creates content types and permissions again;
deleting rows from only those tables that have any is many times faster (the numbers are in
CONTRIBUTING.md).
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterable
from functools import cache
from typing import IO

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from tests.settings import SCRATCH

KEPT_TABLES = frozenset({"django_migrations", "django_content_type", "auth_permission"})
LOCK_WAIT_SECONDS = 10


def acquire_slot() -> tuple[int, IO[str]]:
    """The first slot that no other process has, and the open file that locks it."""
    slot = 0
    while True:
        # lockf, not flock: a forked child must not keep it.
        file = (SCRATCH / f"slot-{slot}.lock").open("w")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            slot += 1
        else:
            return slot, file


def database_name(connection: BaseDatabaseWrapper, slot: int) -> str:
    """The name of the database of a slot; for SQLite its path, without leftovers of a crash."""
    name = f"test_chroniker_{slot}"
    if connection.vendor != "sqlite":
        return name
    for suffix in ("", "-wal", "-shm", "-journal"):
        (SCRATCH / f"{name}.sqlite3{suffix}").unlink(missing_ok=True)
    return str(SCRATCH / f"{name}.sqlite3")


@cache
def _tables(alias: str) -> tuple[str, ...]:
    connection = connections[alias]
    names = connection.introspection.django_table_names(only_existing=True, include_views=False)
    return tuple(name for name in names if name not in KEPT_TABLES)


def delete_all_rows(aliases: Iterable[str]) -> None:
    """Delete every row except those of migrations."""
    for alias in aliases:
        _empty(connections[alias])


def _empty(connection: BaseDatabaseWrapper) -> None:
    """One statement to see what is there, then one DELETE for each table that has rows.

    The order does not matter: constraints are checked at the end of the transaction on
    PostgreSQL and SQLite, and not at all on MariaDB for as long as this takes.
    """
    quote = connection.ops.quote_name
    with connection.cursor() as cursor:
        cursor.execute(
            " UNION ALL ".join(
                f"SELECT '{table}' FROM (SELECT 1) AS one "
                f"WHERE EXISTS (SELECT 1 FROM {quote(table)})"
                for table in _tables(connection.alias)
            )
        )
        full = [table for (table,) in cursor.fetchall()]
        if not full:
            return
        with contextlib.ExitStack() as stack:
            if connection.vendor == "mysql":
                cursor.execute(f"SET SESSION innodb_lock_wait_timeout = {LOCK_WAIT_SECONDS}")
                stack.enter_context(connection.constraint_checks_disabled())
            stack.enter_context(transaction.atomic(using=connection.alias))
            if connection.vendor == "postgresql":
                # A leftover process with row locks would block this forever.
                cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_WAIT_SECONDS}s'")
            for table in full:
                cursor.execute(f"DELETE FROM {quote(table)}")
