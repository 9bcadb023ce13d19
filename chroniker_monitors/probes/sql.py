"""A number from a statement of one's own, which cannot write and cannot outlive its time.

Several locks, one behind the other: the statement stands within the brackets of a SELECT, the
driver takes one statement at a time, the transaction is read only, and the user of the database
that the site names should not be able to do more than read. The brackets are what keeps out
statements that a transaction does not hold, such as SHUTDOWN, or on MariaDB whatever changes
tables.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, ClassVar

from django.db import connections

from chroniker_monitors.conf import conf
from chroniker_monitors.exceptions import ParamsInvalid, ProbeError

from .base import BaseProbe, Reading, param
from .limits import open_connection
from .registry import register_probe

_ALLOWED_START = re.compile(r"(?:SELECT|WITH|VALUES|TABLE)\b", re.IGNORECASE)
_FORBIDDEN_FUNCTIONS = re.compile(
    r"""\b(?:
        pg_(?:read|ls|stat_(?:file|reset|statements_reset)|write|file|terminate|cancel|reload
            |rotate|promote|switch|create|drop|logical|replication|advisory|try_advisory|notify|export|import|backup|hba
            |current_logfile|wal_replay|copy_|sync_|log_|prewarm|buffercache_evict)\w*
        |lo_\w+|loread|lowrite|dblink\w*|set_config|query_to_xml\w*|nextval|setval
        |cursor_to_xml\w*|ts_stat|ts_rewrite|crosstab\w*|connectby|xpath_table|heap_force_\w+
        |load_file|load_extension|get_lock|release_lock|release_all_locks
        |sys_exec|sys_eval|sys_get|sys_set|outfile|dumpfile
    )\b""",
    re.IGNORECASE | re.VERBOSE,
)
"""Functions with which even a SELECT reaches files, other sessions or other servers, or that run
a statement out of a text, in which no name can be found."""


@register_probe
@dataclass(frozen=True, slots=True, kw_only=True)
class SqlProbe(BaseProbe):
    """A statement that gives one number."""

    kind: ClassVar[str] = "sql"
    label: ClassVar[str] = "SQL"
    description: ClassVar[str] = "A number from a SELECT on the database that the site names."
    unit: ClassVar[str] = "number"
    permission: ClassVar[str] = "chroniker_monitors.use_sql_probe"

    statement: str = param(
        label="Statement", help="One SELECT that gives one number.", multiline=True
    )

    def clean(self) -> None:
        """SQL is on, and the statement is one SELECT."""
        try:
            _alias()
            _wrap_select(self.statement)
        except ProbeError as error:
            raise ParamsInvalid({"statement": [str(error)]}) from error

    def run(self) -> Reading:
        """Run it in a session of its own."""
        alias = _alias()
        wrapped = _wrap_select(self.statement)
        with open_connection(alias, read_only=True) as connection:
            rows, columns = _execute(connection, wrapped)
        if columns != 1:
            raise ProbeError(f"The statement gives {columns} columns instead of one number.")
        if len(rows) != 1:
            said = "no row" if not rows else "more than one row"
            raise ProbeError(f"The statement gives {said} instead of one number.")
        return Reading(_number(rows[0][0]))


def _alias() -> str:
    alias = conf.MONITORS_SQL_ALIAS
    if not alias:
        raise ProbeError(
            "Monitors cannot run SQL on this site. CHRONIKER_MONITORS_SQL_ALIAS turns it on: it "
            "names a database of DATABASES whose user can only read."
        )
    if alias not in connections:
        raise ProbeError(f"CHRONIKER_MONITORS_SQL_ALIAS is {alias!r}, which is none of DATABASES.")
    return alias


def _wrap_select(statement: str) -> str:
    """The statement within brackets, where no other kind of statement can stand."""
    text = statement.strip().rstrip(";").rstrip()
    if not _ALLOWED_START.match(text):
        raise ProbeError("The statement has to begin with SELECT or WITH.")
    if "\0" in text:
        raise ProbeError("A NUL character cannot be part of a statement.")
    if ";" in _strip_literals(text):
        raise ProbeError("Give one statement, without a semicolon in it.")
    forbidden = _FORBIDDEN_FUNCTIONS.search(text)
    if forbidden or re.search(r"\bU&[\"']", text, re.IGNORECASE):
        name = forbidden[0] if forbidden else "U&"
        raise ProbeError(f"Monitors do not use {name}: it reaches further than the data.")
    # On a line of its own: the statement may end in a comment.
    return f"SELECT * FROM (\n{text}\n) AS chroniker_probe LIMIT 2"  # noqa: S608


def _strip_literals(text: str) -> str:
    if "\\" in text:
        return text  # where a literal ends depends on the database
    return re.sub(r"'(?:[^']|'')*'", "''", text)


def _execute(connection: Any, statement: str) -> tuple[list[Any], int]:
    """At most two rows, and how many columns they have."""
    if connection.vendor == "postgresql":
        from django.db.backends.postgresql.psycopg_any import is_psycopg3

        if not is_psycopg3:
            raise ProbeError("Monitors need psycopg 3 to run SQL safely: pip install 'psycopg>=3'.")
        from psycopg import Cursor

        # Not Django's cursor, and in binary: that is the extended protocol, in which the server
        # itself takes one statement only.
        with connection.wrap_database_errors, Cursor(connection.connection) as cursor:
            cursor.execute(statement, binary=True)
            return cursor.fetchmany(2), len(cursor.description or ())
    with connection.wrap_database_errors, connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchmany(2)), len(cursor.description or ())


def _number(value: Any) -> float:
    if value is None:
        raise ProbeError("The statement gives NULL; COALESCE can say what counts then.")
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ProbeError(f"The statement gives {value!r:.60}, which is no number.")
    return float(value)
