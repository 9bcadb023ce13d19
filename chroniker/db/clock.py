"""The clock of the database, which all hosts share, and a local clock that never jumps."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.db.models import DateTimeField, Expression, ExpressionWrapper, Func, Value

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models.sql.compiler import SQLCompiler

Moment = datetime | Expression
"""A point in time for a query: a value, or an expression of the database."""


def boottime() -> float:
    """Return seconds since boot, including time in suspend (CLOCK_BOOTTIME)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class DatabaseNow(Func):
    """The moment at which the database evaluates the expression.

    Django's ``Now()`` is not used: on PostgreSQL it is the start of the transaction, which is
    outdated after waiting for a lock, and on MariaDB it is the start of the statement.
    """

    arity = 0
    output_field = DateTimeField()

    def as_sql(  # type: ignore[override]
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: object
    ) -> tuple[str, tuple[()]]:
        """SQLite: milliseconds."""
        return "STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'now')", ()

    def as_postgresql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: object
    ) -> tuple[str, tuple[()]]:
        """``clock_timestamp()`` changes within a transaction."""
        return "clock_timestamp()", ()

    def as_mysql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: object
    ) -> tuple[str, tuple[()]]:
        """SYSDATE(6) changes during a statement. It is local time, so it is converted."""
        return (
            "TIMESTAMPADD(MICROSECOND,"
            " TIMESTAMPDIFF(MICROSECOND, NOW(6), UTC_TIMESTAMP(6)), SYSDATE(6))",
            (),
        )

    def as_oracle(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: object
    ) -> tuple[str, tuple[()]]:
        """``SYSTIMESTAMP`` changes within a transaction."""
        return "SYSTIMESTAMP", ()


class StatementNow(DatabaseNow):
    """The moment at which the statement began, so that a comparison can use an index.

    For comparisons only: after waiting for a lock it is in the past, so fewer rows are due or
    stale.
    """

    def as_postgresql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: object
    ) -> tuple[str, tuple[()]]:
        """``statement_timestamp()`` is stable; ``clock_timestamp()`` is volatile."""
        return "statement_timestamp()", ()

    def as_mysql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: object
    ) -> tuple[str, tuple[()]]:
        """``UTC_TIMESTAMP`` is constant during a statement; ``SYSDATE()`` is not."""
        return "UTC_TIMESTAMP(6)", ()


def database_now_plus(seconds: float) -> Expression:
    """Return the database's clock plus some seconds, for the end of a lease."""
    moment = DatabaseNow() + Value(timedelta(seconds=seconds))
    return ExpressionWrapper(moment, output_field=DateTimeField())


def statement_now_plus(seconds: float) -> Expression:
    """Return the moment at which the statement began plus some seconds, for comparisons."""
    moment = StatementNow() + Value(timedelta(seconds=seconds))
    return ExpressionWrapper(moment, output_field=DateTimeField())
