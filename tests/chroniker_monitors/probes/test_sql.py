"""The sql probe: one number, read only, with a time limit."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from chroniker_monitors.checking.measurement import measure
from chroniker_monitors.probes import build_probe, kind_class
from chroniker_monitors.probes.sql import SqlProbe
from tests.support.measurement import (
    build_errors,
    measure_error,
    measure_value,
    measured_number,
)
from tests.support.replicas import aliases

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _on(settings: Any) -> None:
    settings.CHRONIKER_MONITORS_SQL_ALIAS = "default"


@pytest.fixture
def table() -> Iterator[None]:
    """A table of three rows: 1, 2, 3."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE probe_numbers (number integer)")
        cursor.execute("INSERT INTO probe_numbers VALUES (1), (2), (3)")
    yield
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS probe_numbers")
        cursor.execute("DROP TABLE IF EXISTS probe_more")


def numbers() -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT number FROM probe_numbers ORDER BY number")
        return [number for (number,) in cursor.fetchall()]


@pytest.mark.parametrize(
    ("statement", "value"),
    [
        ("SELECT count(*) FROM probe_numbers", 3), ("select max(number) from probe_numbers;", 3),
        ("SELECT 2.5", 2.5), ("SELECT -1 -- the end", -1), ("  \n SELECT 5 ;; \n", 5),
        ("WITH a AS (SELECT 7 AS b) SELECT b FROM a", 7), ("SELECT count(*) AS \"a;b\"", None),
        ("SELECT count(*) FROM probe_numbers WHERE number IN (1, 2)", 2),
        ("SELECT number FROM probe_numbers ORDER BY number DESC LIMIT 1", 3),
        ("SELECT count(*) FROM probe_numbers WHERE 'a;b' = 'a;b' AND '100%s' LIKE '100%'", 3),
        ("SELECT /* why */ 4", 4), ("SELECT avg(number) FROM probe_numbers", 2),
    ],
)  # fmt: skip
def test_statement_returns_a_number(table: None, statement: str, value: float | None) -> None:
    if value is None:
        assert "one statement" in build_errors("sql", statement=statement)["statement"]
        return
    assert measure_value("sql", statement=statement).value == value


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("SELECT number FROM probe_numbers WHERE number > 9", "no row"),
        ("SELECT number FROM probe_numbers", "more than one row"),
        ("SELECT 1 AS a, 2 AS b", "2 columns"),
        ("SELECT max(number) FROM probe_numbers WHERE number > 9", "NULL"),
        ("SELECT 'five'", "not a number"),
        ("SELECT count(*) FROM no_such_table", "no_such_table"),
        ("SELECT no_such_column FROM probe_numbers", "no_such_column"),
        ("SELECT FROM WHERE", "Database error"),
        ("SELECT 1 /* unfinished", "Database error"),
        ("SELECT (1", "Database error"),
    ],
)
def test_other_results_are_unknown(table: None, statement: str, said: str) -> None:
    found = measure_error("sql", statement=statement)
    assert said in found


# --- it cannot write ------------------------------------------------------------------------

WRITES = [
    "DELETE FROM probe_numbers", "INSERT INTO probe_numbers VALUES (4)", "TRUNCATE probe_numbers",
    "UPDATE probe_numbers SET number = 9", "DROP TABLE probe_numbers", "COMMIT", "ROLLBACK",
    "CREATE TABLE probe_more (a integer)", "SET TRANSACTION READ WRITE", "BEGIN", "VACUUM",
    "CALL something()", "DO $$ BEGIN DELETE FROM probe_numbers; END $$", "PRAGMA query_only = OFF",
    "ATTACH DATABASE '/tmp/chroniker-probe.sqlite3' AS more",
    "REPLACE INTO probe_numbers VALUES (1)",
    "COPY probe_numbers TO PROGRAM 'sh'", "EXPLAIN ANALYZE DELETE FROM probe_numbers",
    "PREPARE a AS DELETE FROM probe_numbers", "LOCK TABLE probe_numbers", "GRANT ALL ON a TO b",
    "LOAD DATA INFILE '/etc/passwd' INTO TABLE probe_numbers", "HANDLER probe_numbers OPEN",
    "/* SELECT */ DELETE FROM probe_numbers", "-- SELECT\nDELETE FROM probe_numbers", "",
    "(DELETE FROM probe_numbers)", "\ufeffSELECT 1", "SHUTDOWN", "KILL 1",
]  # fmt: skip
HARMLESS = [
    statement
    for statement in WRITES
    if ("probe_" in statement or " " not in statement)
    and not statement.startswith(("COPY", "LOAD", "HANDLER", "SHUTDOWN", "VACUUM"))
]
"""Statements that harm only this test's tables if every protection fails."""
STACKED_STATEMENTS = [
    "SELECT 1; DELETE FROM probe_numbers", "SELECT 1;DELETE FROM probe_numbers;",
    "SELECT 1) AS a; DELETE FROM probe_numbers; SELECT * FROM (SELECT 1",
    "SELECT 1) AS a; COMMIT; DELETE FROM probe_numbers; SELECT (1",
    "SELECT '\\'; DELETE FROM probe_numbers; -- '", "SELECT 1 /*! ; DELETE FROM probe_numbers */",
    "SELECT $$a$$; DELETE FROM probe_numbers",
]  # fmt: skip
REACHING = [
    "SELECT pg_read_file('/etc/passwd')", "SELECT PG_READ_FILE /**/ ('/etc/passwd')",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity", "SELECT lo_import('/etc/passwd')",
    "SELECT \"pg_read_binary_file\"('/etc/passwd')",
    "SELECT U&\"pg_re\\0061d_file\"('/etc/passwd')",
    "SELECT dblink_exec('dbname=a', 'DELETE FROM b')", "SELECT set_config('a.b', 'c', false)",
    "SELECT load_file('/etc/passwd')", "SELECT load_extension('/tmp/evil.so')",
    "SELECT 1 INTO OUTFILE '/tmp/a'", "SELECT 1 INTO DUMPFILE '/tmp/a'", "SELECT nextval('a')",
    "SELECT pg_advisory_lock(1)", "SELECT get_lock('a', 10)", "SELECT sys_exec('id')",
    "SELECT query_to_xml('DELETE FROM a', true, true, '')", "SELECT pg_ls_dir('/')",
    "SELECT count(*) FROM ts_stat('SELECT to_tsvector(pg_re'||'ad_file(''/etc/passwd''))')",
    "SELECT length(ts_rewrite('a', 'SELECT ''a'', pg_re'||'ad_file(''/etc/passwd'')')::text)",
    "SELECT count(*) FROM crosstab('SELECT pg_re'||'ad_file(''/etc/passwd'')') AS a(b text)",
    "SELECT 1 FROM pg_stat_reset() AS a", "SELECT 1 FROM pg_stat_reset_shared('wal') AS a",
    "SELECT 1 FROM pg_stat_statements_reset() AS a", "SELECT 1 FROM pg_wal_replay_pause() AS a",
    "SELECT 1 FROM pg_copy_physical_replication_slot('a', 'b') AS a",
]  # fmt: skip


@pytest.mark.one_database
@pytest.mark.parametrize("statement", [*WRITES, *STACKED_STATEMENTS, *REACHING])
def test_statement_that_is_not_a_select_is_rejected(statement: str) -> None:
    assert build_errors("sql", statement=statement)["statement"]


@pytest.mark.one_database
@pytest.mark.parametrize(
    "statement",
    ["SELECT max(pg_stat_get_numscans(1))", "SELECT pg_database_size('shop')",
     "SELECT sum(pg_wal_lsn_diff(a, b)) FROM c", "SELECT max(ts_status) FROM d"],
)  # fmt: skip
def test_harmless_lookalikes_are_accepted(statement: str) -> None:
    build_probe("sql", {"statement": statement})


@pytest.mark.parametrize("statement", [*HARMLESS, *STACKED_STATEMENTS])
def test_database_refuses_statements_that_pass_validation(
    table: None, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without validation, the other protections still hold."""
    if connection.vendor == "mysql" and statement.startswith(("CREATE", "DROP", "TRUNCATE")):
        return  # DDL commits the transaction there; the brackets make it a syntax error
    monkeypatch.setattr("chroniker_monitors.probes.sql._wrap_select", lambda text: text or "SELECT")
    measure(SqlProbe(statement=statement), timeout=20)
    assert numbers() == [1, 2, 3]
    assert not Path("/tmp/chroniker-probe.sqlite3").exists()
    with connection.cursor() as cursor:
        assert "probe_more" not in connection.introspection.table_names(cursor)


@pytest.mark.parametrize("statement", STACKED_STATEMENTS)
def test_brackets_prevent_stacked_statements(
    table: None, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapped = f"SELECT * FROM (\n{statement}\n) AS chroniker_probe LIMIT 2"
    monkeypatch.setattr("chroniker_monitors.probes.sql._wrap_select", lambda text: wrapped)
    measure(SqlProbe(statement=statement), timeout=20)
    assert numbers() == [1, 2, 3]


@pytest.mark.parametrize("statement", [text for text in STACKED_STATEMENTS if "AS a" not in text])
def test_driver_accepts_one_statement(
    table: None, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any other protection, not even the transaction."""
    monkeypatch.setattr("chroniker_monitors.probes.sql._wrap_select", lambda text: text)
    monkeypatch.setattr(
        "chroniker_monitors.probes.limited_connections._begin_read_only", lambda connection: None
    )
    measure(SqlProbe(statement=statement), timeout=20)
    assert numbers() == [1, 2, 3]


WRITING_SELECTS = {
    "postgresql": [
        "WITH gone AS (DELETE FROM probe_numbers RETURNING 1) SELECT count(*) FROM gone",
        "SELECT count(*) FROM probe_numbers FOR UPDATE",
        "SELECT number FROM probe_numbers WHERE number = 1 FOR UPDATE",
        "SELECT 1 AS a INTO probe_more",
        "SELECT probe_write()",
        "SELECT set_config('transaction_read_only', 'off', true)::int",
    ],
    "mysql": ["SELECT 1 INTO @a", "SELECT probe_write()"],
    "sqlite": ["WITH a AS (SELECT 1) DELETE FROM probe_numbers", "SELECT probe_write()"],
}


def test_select_that_writes_is_refused_by_the_database(
    table: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chroniker_monitors.probes.sql._FORBIDDEN_FUNCTIONS", _never_matches)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "CREATE FUNCTION probe_write() RETURNS integer LANGUAGE plpgsql AS $$ BEGIN "
                "DELETE FROM probe_numbers; RETURN 1; END $$"
            )
        elif connection.vendor == "mysql":
            cursor.execute(
                "CREATE FUNCTION probe_write() RETURNS integer MODIFIES SQL DATA "
                "BEGIN DELETE FROM probe_numbers; RETURN 1; END"
            )
    try:
        for statement in WRITING_SELECTS[connection.vendor]:
            assert measure_error("sql", statement=statement), statement
            assert numbers() == [1, 2, 3]
    finally:
        if connection.vendor != "sqlite":
            with connection.cursor() as cursor:
                cursor.execute("DROP FUNCTION probe_write")


class _NeverMatches:
    def search(self, text: str) -> None:
        return None


_never_matches = _NeverMatches()


# --- it cannot exceed its time limit --------------------------------------------------------

ENDLESS = {
    "postgresql": "SELECT count(*) FROM pg_sleep(300)",
    "mysql": "SELECT count(*) + sleep(300) FROM information_schema.tables a",
    "sqlite": "WITH RECURSIVE a(b) AS (SELECT 1 UNION ALL SELECT b + 1 FROM a) "
    "SELECT count(*) FROM a",
}


def test_statement_ends_with_its_time_limit() -> None:
    began = time.monotonic()
    said = measure_error("sql", timeout=1, statement=ENDLESS[connection.vendor])
    assert said.startswith("No result within 1 s.")
    assert time.monotonic() - began < 30
    if connection.vendor != "sqlite":
        assert _running() == 0, "it does not continue in the database either"


@pytest.mark.one_database
def test_locked_sqlite_file_is_unknown_in_time(settings: Any, tmp_path: Path) -> None:
    """SQLite waits for locks itself and ignores the alarm meanwhile."""
    path = tmp_path / "shop.sqlite3"
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE shop (number integer)")
        other.commit()
        other.execute("BEGIN EXCLUSIVE")
        settings.CHRONIKER_MONITORS_SQL_ALIAS = "locked"
        with aliases("sqlite3", "", str(path), {"locked": 0}):
            probe = build_probe("sql", {"statement": "SELECT count(*) FROM shop"})
            found = measure(probe, timeout=1)
            assert found.value is None, found
            assert "database is locked" in found.error or "No result" in found.error
            assert found.latency_seconds < 15
            other.rollback()
            assert measure(probe, timeout=20).value == 0


def _running() -> int:
    question = {
        "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%%pg_sleep(300)%%' "
        "AND state = 'active' AND pid <> pg_backend_pid()",
        "mysql": "SELECT count(*) FROM information_schema.processlist WHERE info LIKE "
        "'%%sleep(300)%%' AND id <> connection_id()",
    }[connection.vendor]
    deadline = time.monotonic() + 10
    while True:
        with connection.cursor() as cursor:
            cursor.execute(question.replace("%%", "%"))
            (number,) = cursor.fetchone()
        if not number or time.monotonic() > deadline:
            return int(number)
        time.sleep(0.05)


def test_connection_of_the_site_is_unchanged(table: None) -> None:
    measured_number("sql", statement="SELECT 1")
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO probe_numbers VALUES (4)")
    assert numbers() == [1, 2, 3, 4]


# --- permissions ----------------------------------------------------------------------------


def test_sql_probe_is_disabled_without_an_alias(settings: Any) -> None:
    probe = SqlProbe(statement="SELECT 1")
    del settings.CHRONIKER_MONITORS_SQL_ALIAS
    assert "CHRONIKER_MONITORS_SQL_ALIAS" in build_errors("sql", statement="SELECT 1")["statement"]
    assert "CHRONIKER_MONITORS_SQL_ALIAS" in measure(probe, timeout=5).error
    settings.CHRONIKER_MONITORS_SQL_ALIAS = "gone"
    assert "not in DATABASES" in measure(probe, timeout=5).error


def test_sql_probe_requires_its_own_permission() -> None:
    assert kind_class("sql").permission == "chroniker_monitors.use_sql_probe"
    assert kind_class("disk").permission == ""


def test_each_row_is_a_group(table: None) -> None:
    found = measure_value(
        "sql",
        statement="SELECT CASE WHEN number > 1 THEN 'big' ELSE NULL END AS size, count(*) AS n "
        "FROM probe_numbers GROUP BY 1 ORDER BY 2",
        group_by="first_column",
    )
    assert found.series is not None
    assert {each.name: each.value for each in found.series} == {"(none)": 1, "big": 2}


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("SELECT 1", "1 columns instead of a group and its number"),
        ("SELECT 'a', 1, 2", "3 columns"),
        ("SELECT 'a', 'b'", "not a number"),
        ("SELECT 'a', NULL", "NULL"),
        ("SELECT 'a', 1 UNION ALL SELECT 'a', 2", "'a' twice"),
    ],
)
def test_groups_need_a_name_and_a_number(statement: str, words: str) -> None:
    assert words in measure_error("sql", statement=statement, group_by="first_column")


def test_too_many_sql_groups_are_counted(table: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chroniker_monitors.probes.sql.MAX_GROUPS", 2)
    found = measure_value(
        "sql", statement="SELECT number, 1 FROM probe_numbers ORDER BY 1", group_by="first_column"
    )
    assert found.series is not None
    assert [each.name for each in found.series] == ["1", "2"]
    assert found.more_series == 1


def test_sql_is_unavailable_where_the_site_has_it_off(settings: Any) -> None:
    assert kind_class("sql").unavailable() == ""
    settings.CHRONIKER_MONITORS_SQL_ALIAS = ""
    assert "not enabled" in kind_class("sql").unavailable()
