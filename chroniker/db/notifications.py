"""PostgreSQL's LISTEN and NOTIFY, with psycopg 3 and psycopg2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import connections

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

CHANNEL = "chroniker_due"


def notify_due(alias: str) -> None:
    """Tell the schedulers, after the commit, that a job may start. Does nothing elsewhere."""
    connection = connections[alias]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"NOTIFY {CHANNEL}")


def is_pooled(connection: BaseDatabaseWrapper) -> bool:
    """Whether a pooler is between this process and the server.

    It invents the process id that a session begins with. Behind it, a statement may reach another
    session than the one that listens.
    """
    info = getattr(connection.connection, "info", None)
    reported = connection.connection.get_backend_pid() if info is None else info.backend_pid
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        row = cursor.fetchone()
    return row is None or row[0] != reported


class Listener:
    """Listens on a connection, which may be used for other statements meanwhile."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._driver = connection.connection
        self._errors = connection.wrap_database_errors
        self._heard = False
        with connection.cursor() as cursor:
            cursor.execute(f"LISTEN {CHANNEL}")
        if self._is_psycopg3:  # those that come with the answer to another statement
            self._driver.add_notify_handler(self._note)

    @property
    def _is_psycopg3(self) -> bool:
        return hasattr(self._driver, "pgconn")

    def _note(self, notification: object) -> None:
        self._heard = True

    def fileno(self) -> int:
        """The socket, which is readable when a notification has arrived."""
        fd: int = self._driver.fileno()
        return fd

    def heard(self) -> bool:
        """Whether a notification has arrived since the last call. Does not wait.

        Raises DatabaseError if the connection is broken.
        """
        with self._errors:
            if self._is_psycopg3:
                self._driver.pgconn.consume_input()
                while self._driver.pgconn.notifies():
                    self._heard = True
            else:
                self._driver.poll()
                self._heard = bool(self._driver.notifies)
                del self._driver.notifies[:]
        heard, self._heard = self._heard, False
        return heard
