"""A benchmark database of each kind: created, migrated, and dropped at the end."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .workers import call

SERVERS = {
    "postgres": ("PGHOST", "PGPORT", 5432),
    "mariadb": ("MYSQL_HOST", "MYSQL_PORT", 3306),
}
BACKENDS = ("sqlite", *SERVERS)


@dataclass(frozen=True, slots=True)
class BenchmarkDatabase:
    """A database that is used only by this benchmark."""

    backend: str
    name: str

    def call(self, function: Callable[..., Any], **arguments: Any) -> Any:
        """Call a function in a new process whose settings use this database."""
        environ = {"CHRONIKER_TEST_DB": self.backend, "CHRONIKER_TEST_DB_NAME": self.name}
        return call(function, environ, **arguments)


def is_available(backend: str) -> bool:
    """Return whether there is a server; SQLite needs none."""
    if backend not in SERVERS:
        return True
    host, port, usual = SERVERS[backend]
    address = os.environ.get(host, "127.0.0.1"), int(os.environ.get(port, usual))
    with contextlib.suppress(OSError), socket.create_connection(address, timeout=2):
        return True
    return False


@contextlib.contextmanager
def fresh(backend: str, suffix: str = "") -> Iterator[BenchmarkDatabase]:
    """Create a migrated, empty database; drop it at the end."""
    with tempfile.TemporaryDirectory(prefix="chroniker-bench-") as folder:
        name = f"chroniker_bench_{os.getpid()}{suffix}"
        if backend == "sqlite":
            name = os.path.join(folder, "site.sqlite3")
        database = BenchmarkDatabase(backend, name)
        try:
            database.call(create)
            yield database
        finally:
            database.call(drop)


# --- in a worker ----------------------------------------------------------------------------


def create() -> None:
    """Create the database of the settings."""
    from django.core.management import call_command
    from django.db import connection

    if connection.vendor != "sqlite":
        extra = " CHARACTER SET utf8mb4" if connection.vendor == "mysql" else ""
        _execute(f"CREATE DATABASE {_quoted_name()}{extra}")
    call_command("migrate", verbosity=0)


def drop() -> None:
    """Drop it, if it exists; the file of SQLite is deleted with its directory."""
    from django.db import connection

    if connection.vendor != "sqlite":
        force = " WITH (FORCE)" if connection.vendor == "postgresql" else ""
        _execute(f"DROP DATABASE IF EXISTS {_quoted_name()}{force}")


def empty() -> None:
    """Delete all rows except those of migrations, and reset the sequences."""
    from django.core.management.color import no_style
    from django.db import connection

    names = connection.introspection.django_table_names(only_existing=True)
    tables = [name for name in names if name.startswith("chroniker")]
    statements = connection.ops.sql_flush(no_style(), tables, reset_sequences=True)
    connection.ops.execute_sql_flush(statements)


def _quoted_name() -> str:
    from django.db import connection

    return connection.ops.quote_name(connection.settings_dict["NAME"])


def _execute(statement: str) -> None:
    from django.db import connection

    with connection._nodb_cursor() as cursor:
        cursor.execute(statement)
