"""Other connections in the place of the default one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from django.db import connection, connections

POSTGRES = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": "nowhere",
    "USER": "nobody",
    "HOST": "127.0.0.1",
    "OPTIONS": {},
}


def postgres_wrapper(port: int) -> Any:
    """A PostgreSQL connection, for any database of the suite."""
    from django.db.backends.postgresql.base import DatabaseWrapper

    settings = {**connections.settings["default"], **POSTGRES, "PORT": str(port)}
    return DatabaseWrapper(settings, "default")


@contextlib.contextmanager
def replace_default_connection(wrapper: Any) -> Iterator[None]:
    mine, before = connections["default"], connections.settings["default"]
    connections.settings["default"] = wrapper.settings_dict
    connections["default"] = wrapper
    try:
        yield
    finally:
        connections.settings["default"] = before
        connections["default"] = mine


def kill_other_connections() -> None:
    """Terminate every other connection to this database, as a restart would."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            return
        cursor.execute(
            "SELECT id FROM information_schema.processlist "
            "WHERE db = DATABASE() AND id <> CONNECTION_ID()"
        )
        for (number,) in cursor.fetchall():
            cursor.execute(f"KILL {int(number)}")
