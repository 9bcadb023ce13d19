"""A number from the user's own SQL statement, or one for each group: read-only, limited in time.

There are several layers of protection: the statement is wrapped in parentheses inside a SELECT,
the driver accepts one statement at a time, the transaction is read-only, and the site should
configure a database user that can only read. The parentheses exclude statements that a read-only
transaction does not stop, such as SHUTDOWN, or changes of tables on MariaDB.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import ClassVar

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from chroniker_monitors.conf import conf
from chroniker_monitors.exceptions import ParamsInvalid, ProbeError
from chroniker_monitors.series import series_name

from .base import MAX_GROUPS, BaseProbe, Reading
from .limited_connections import open_connection
from .params import param
from .registry import register_probe

FIRST_COLUMN = "first_column"
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
"""Functions through which a SELECT can reach files, other sessions or other servers, or that run
SQL from a string, in which this pattern would find nothing."""


@register_probe
@dataclass(frozen=True, slots=True, kw_only=True)
class SqlProbe(BaseProbe):
    """A statement that returns one number."""

    kind: ClassVar[str] = "sql"
    label: ClassVar[str] = "SQL"
    description: ClassVar[str] = (
        "A number from a SELECT on the database of CHRONIKER_MONITORS_SQL_ALIAS."
    )
    unit: ClassVar[str] = ""
    permission: ClassVar[str] = "chroniker_monitors.use_sql_probe"

    statement: str = param(
        label="Statement",
        help="One SELECT that returns one number; with groups, rows of a name and a number.",
        multiline=True,
    )
    group_by: str = param(
        "",
        label="Group by",
        help="First column: the statement returns two columns, the group and its number.",
        choices=((FIRST_COLUMN, "First column"),),
    )

    @classmethod
    def unavailable(cls) -> str:
        """Return why SQL is off on this site; empty if it is on."""
        try:
            _alias()
        except ProbeError as error:
            return str(error)
        return ""

    def clean(self) -> None:
        """Check that SQL is enabled, and that the statement is one SELECT."""
        try:
            _alias()
            _wrap_select(self.statement, 2)
        except ProbeError as error:
            raise ParamsInvalid({"statement": [str(error)]}) from error

    def run(self) -> Reading:
        """Run the statement in its own session."""
        alias = _alias()
        if self.group_by:
            return self._read_groups(alias)
        with open_connection(alias, read_only=True) as connection:
            rows, columns = _execute(connection, _wrap_select(self.statement, 2), 2)
        if columns != 1:
            raise ProbeError(f"The statement returned {columns} columns instead of one number.")
        if len(rows) != 1:
            said = "no rows" if not rows else "more than one row"
            raise ProbeError(f"The statement returned {said} instead of one number.")
        return Reading(_number(rows[0][0]))

    def _read_groups(self, alias: str) -> Reading:
        """Measure each group. One more statement if there are too many groups."""
        limit = MAX_GROUPS + 1
        with open_connection(alias, read_only=True) as connection:
            rows, columns = _execute(connection, _wrap_select(self.statement, limit), limit)
            if columns != 2:
                raise ProbeError(
                    f"The statement returned {columns} columns instead of a group and its number."
                )
            more = 0
            if len(rows) == limit:
                counted, _ = _execute(connection, _wrap_select(self.statement, 0), 1)
                more = int(_number(counted[0][0])) - MAX_GROUPS
        series: dict[object, float] = {}
        for group, value in rows[:MAX_GROUPS]:
            name = bytes(group).hex() if isinstance(group, bytes | memoryview) else group
            if name in series:
                raise ProbeError(
                    f"The statement returned the group {series_name(name)!r} twice. Use GROUP BY."
                )
            series[name] = _number(value)
        return Reading(0, series=tuple(series.items()), more_series=max(more, 0))


def _alias() -> str:
    alias = conf.MONITORS_SQL_ALIAS
    if not alias:
        raise ProbeError(
            "SQL monitors are not enabled on this site. Set CHRONIKER_MONITORS_SQL_ALIAS to an "
            "alias of DATABASES whose user can only read."
        )
    if alias not in connections:
        raise ProbeError(f"CHRONIKER_MONITORS_SQL_ALIAS is {alias!r}, which is not in DATABASES.")
    return alias


def _wrap_select(statement: str, limit: int) -> str:
    """Put the statement into parentheses, where only a query is valid. Limit 0 counts its rows."""
    text = statement.strip().rstrip(";").rstrip()
    if not _ALLOWED_START.match(text):
        raise ProbeError("The statement must begin with SELECT or WITH.")
    if "\0" in text:
        raise ProbeError("A statement must not contain a NUL character.")
    if ";" in _strip_literals(text):
        raise ProbeError("Enter one statement, without semicolons.")
    forbidden = _FORBIDDEN_FUNCTIONS.search(text)
    if forbidden or re.search(r"\bU&[\"']", text, re.IGNORECASE):
        name = forbidden[0] if forbidden else "U&"
        raise ProbeError(f"Monitors must not use {name}: it can reach more than the data.")
    # On its own line, because the statement may end with a comment.
    if not limit:
        return f"SELECT COUNT(*) FROM (\n{text}\n) AS chroniker_probe"  # noqa: S608
    return f"SELECT * FROM (\n{text}\n) AS chroniker_probe LIMIT {limit}"  # noqa: S608


def _strip_literals(text: str) -> str:
    if "\\" in text:
        return text  # the end of a literal depends on the database
    return re.sub(r"'(?:[^']|'')*'", "''", text)


def _execute(
    connection: BaseDatabaseWrapper, statement: str, limit: int
) -> tuple[list[tuple[object, ...]], int]:
    """Return at most ``limit`` rows, and the number of columns."""
    if connection.vendor == "postgresql":
        from django.db.backends.postgresql.psycopg_any import is_psycopg3

        if not is_psycopg3:
            raise ProbeError("Monitors need psycopg 3 to run SQL safely: pip install 'psycopg>=3'.")
        from psycopg import Cursor

        # A cursor of psycopg in binary mode uses the extended protocol, in which the server
        # accepts only one statement.
        with connection.wrap_database_errors, Cursor(connection.connection) as cursor:
            cursor.execute(statement, binary=True)
            return cursor.fetchmany(limit), len(cursor.description or ())
    with connection.wrap_database_errors, connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchmany(limit)), len(cursor.description or ())


def _number(value: object) -> float:
    if value is None:
        raise ProbeError(
            "The statement returned NULL. Use COALESCE to define a value for this case."
        )
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ProbeError(f"The statement returned {value!r:.60}, which is not a number.")
    return float(value)
