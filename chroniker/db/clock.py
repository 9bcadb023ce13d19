"""The database's clock, on which hosts with clocks of their own agree, and one that never jumps."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from django.db.models import DateTimeField, ExpressionWrapper, Func, Value
from django.db.models.expressions import Combinable


def boottime() -> float:
    """Seconds since boot, those asleep included (CLOCK_BOOTTIME)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class DatabaseNow(Func):
    """The moment at which the database evaluates it.

    Not Django's ``Now()``: on PostgreSQL that is the start of the transaction, which is stale
    after a lock wait, and on MariaDB the start of the statement.
    """

    arity = 0
    output_field = DateTimeField()

    def as_sql(  # type: ignore[override]
        self, compiler: Any, connection: Any, **extra: Any
    ) -> Any:
        """SQLite: there is one clock, in milliseconds."""
        return "STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'now')", ()

    def as_postgresql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        """Not frozen by the transaction."""
        return "clock_timestamp()", ()

    def as_mysql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        """SYSDATE(6) moves during a statement, but is in the session's zone, so it is shifted."""
        return (
            "TIMESTAMPADD(MICROSECOND,"
            " TIMESTAMPDIFF(MICROSECOND, NOW(6), UTC_TIMESTAMP(6)), SYSDATE(6))",
            (),
        )

    def as_oracle(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        """Not frozen by the transaction either."""
        return "SYSTIMESTAMP", ()


class StatementNow(DatabaseNow):
    """The moment at which the statement began, which an index can be searched for.

    For comparisons only: after a lock wait it is in the past, so that less is due or stale.
    """

    def as_postgresql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        """Stable, where ``clock_timestamp()`` is volatile."""
        return "statement_timestamp()", ()

    def as_mysql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        """Constant, where ``SYSDATE()`` is not."""
        return "UTC_TIMESTAMP(6)", ()


def database_now_plus(seconds: float) -> Combinable:
    """The database's clock plus some seconds, for a lease."""
    moment = DatabaseNow() + Value(timedelta(seconds=seconds))
    return ExpressionWrapper(moment, output_field=DateTimeField())


def statement_now_plus(seconds: float) -> Combinable:
    """The moment at which the statement began plus some seconds, for comparisons."""
    moment = StatementNow() + Value(timedelta(seconds=seconds))
    return ExpressionWrapper(moment, output_field=DateTimeField())
