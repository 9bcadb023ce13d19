"""When a scheduler that ticks in a loop has something to start before its next tick.

That is at the next moment at which a state becomes due, and when another process requests a run or
ends one that others wait for. PostgreSQL reports the latter (LISTEN, NOTIFY). SQLite tells whether
another process has written. Elsewhere, and behind a pooler such as PgBouncer, which loses
notifications, one small query looks a few times a second.

What is missed here is started by the next tick, so an error means no more than that.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from django.db import DatabaseError, InterfaceError

from chroniker.db.alias import database
from chroniker.db.clock import StatementNow
from chroniker.db.notifications import Listener, is_pooled
from chroniker.db.prepared import PreparedQuery
from chroniker.models import JobState

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

_MIN_SECONDS = 0.05
"""Looks for something to start are at least this far apart."""
_NEWEST = 20


class _Gate(Protocol):
    """Reports cheaply that another process may have made something due."""

    def wait(self, seconds: float) -> None:
        """Sleep until it may have something to report, at most so long."""

    def passed(self) -> bool:
        """Whether something may have become due since the last call."""


class _Polling:
    """Compares the states that became due last with those of the call before."""

    seconds = 0.1

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        newest = JobState.objects.due(StatementNow()).order_by("-due_at", "-pk")
        rows = newest.values_list("pk", "due_at")[:_NEWEST]
        self._sql = rows.query.get_compiler(connection=connection).as_sql()
        self._asked_at = 0.0
        self._seen: set[tuple[object, ...]] = set()

    def wait(self, seconds: float) -> None:
        time.sleep(min(seconds, self.seconds))

    def passed(self) -> bool:
        if time.monotonic() < self._asked_at + self.seconds / 2:
            return False
        self._asked_at = time.monotonic()
        return self._ask()

    def _ask(self) -> bool:
        with self._connection.cursor() as cursor:
            cursor.execute(*self._sql)
            found = set(cursor.fetchall())
        new, self._seen = found - self._seen, found
        return bool(new)


class _SQLite(_Polling):
    """First asks SQLite whether another process has written: a few microseconds."""

    seconds = 0.05

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        super().__init__(connection)
        self._version: object = None

    def _ask(self) -> bool:
        # Past Django's wrappers, which would cost more than the statement.
        version = self._connection.connection.execute("PRAGMA data_version").fetchone()
        unchanged, self._version = version == self._version, version
        return not unchanged and super()._ask()


class _Listening:
    """Waits for notifications on the scheduler's own connection."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._listener = Listener(connection)

    def wait(self, seconds: float) -> None:
        poll = select.poll()
        poll.register(self._listener.fileno(), select.POLLIN)
        poll.poll(seconds * 1000)

    def passed(self) -> bool:
        return self._listener.heard()


class DueWatch:
    """Watches for one scheduler. ``now`` gives the database's time."""

    def __init__(self, host: str, now: Callable[[], datetime]) -> None:
        self._host = host
        self._now = now
        self._gate: _Gate | None = None
        self._driver: object = None
        """The driver's connection that the gate was made for."""
        self._coming: PreparedQuery | None = None
        self._passed = False
        self._next_due = float("inf")
        """When the next state becomes due, by CLOCK_MONOTONIC."""
        self._looked_at = 0.0

    def note_tick(self) -> None:
        """A tick has ended: find out what comes next."""
        self._looked_at = time.monotonic()
        self._next_due, self._passed = float("inf"), False
        with self._without_errors():
            self._find_next_due()
            self._open_gate()

    def pause(self, now: float) -> float:
        """How long the scheduler may wait at ``now`` (CLOCK_MONOTONIC) until :meth:`is_due`."""
        wait = 0.0 if self._passed else self._next_due - now
        return max(wait, self._looked_at + _MIN_SECONDS - now, 0.0)

    def wait(self, seconds: float) -> None:
        """Sleep, but no longer than until something may have become due."""
        end = time.monotonic() + seconds
        self._ask()
        while (left := end - time.monotonic()) > 0 and not self._passed:
            if self._gate is None:
                time.sleep(left)
                return
            self._gate.wait(left)
            self._ask()

    def is_due(self) -> bool:
        """Whether this host could start something now that it could not at its last look."""
        now = time.monotonic()
        if now < self._looked_at + _MIN_SECONDS:
            return False
        self._ask()
        if not self._passed and now < self._next_due:
            return False
        self._looked_at, self._passed, self._next_due = now, False, float("inf")
        with self._without_errors():
            if self._can_start():
                return True  # the tick notes what comes next
            self._find_next_due()
        return False

    def _ask(self) -> None:
        if self._gate is None or self._passed:
            return
        if self._driver is not database().connection:  # a fork closes all connections
            self._gate = None
            return
        with self._without_errors():
            self._passed = self._gate.passed()

    @contextmanager
    def _without_errors(self) -> Iterator[None]:
        """With a connection that is broken, nothing is watched until the next tick."""
        try:
            yield
        except (DatabaseError, InterfaceError):
            self._gate, self._next_due = None, float("inf")

    def _can_start(self) -> bool:
        now = self._now()
        return JobState.objects.due(now).for_host(self._host).unblocked(now).exists()

    def _find_next_due(self) -> None:
        if self._coming is None or not self._coming.usable():
            coming = JobState.objects.filter(due_at__gt=StatementNow()).order_by("due_at")
            self._coming = PreparedQuery(coming.values("due_at")[:1])
        following = self._coming.first()
        self._next_due = float("inf")
        if following is not None:
            seconds = (following["due_at"] - self._now()).total_seconds()
            self._next_due = time.monotonic() + seconds + 0.001

    def _open_gate(self) -> None:
        connection = database()
        if self._gate is not None and self._driver is connection.connection:
            return
        self._driver = connection.connection
        gate: _Gate
        if connection.vendor == "sqlite":
            gate = _SQLite(connection)
        elif connection.vendor == "postgresql" and not is_pooled(connection):
            gate = _Listening(connection)
        else:
            gate = _Polling(connection)
        gate.passed()
        self._gate = gate
