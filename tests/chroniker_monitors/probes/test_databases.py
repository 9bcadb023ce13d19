"""Latency, replication lag and migrations, on real servers."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.db import connection, connections
from django.db.migrations.recorder import MigrationRecorder

from chroniker_monitors.checking.measurement import measure
from chroniker_monitors.probes import build_probe
from tests.support.machine import free_port
from tests.support.measurement import (
    build_errors,
    measure_error,
    measure_value,
    measured_number,
)
from tests.support.probe_servers import send_nothing, serve_socket
from tests.support.processes import wait_until
from tests.support.replicas import aliases, connect, mariadb_pair, postgres_pair, run

ENGINES = {"postgresql": "postgres", "mysql": "root"}

# --- latency --------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_database_has_a_latency() -> None:
    found = measure_value("database")
    assert 0 < (found.value or 0) < 20
    assert (found.unit, found.message) == (
        "seconds",
        f"{connection.display_name} 'default' answers",
    )


@pytest.mark.django_db(transaction=True)
def test_probe_opens_and_closes_its_own_connection() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    before = connections["default"].connection
    measured_number("database")
    assert connections["default"].connection is before


@pytest.mark.parametrize("engine", sorted(ENGINES))
@pytest.mark.django_db
@pytest.mark.one_database
def test_missing_database_is_unknown(engine: str) -> None:
    _needs_driver(engine)
    with aliases(engine, ENGINES[engine], "shop", {"away": free_port()}):
        said = measure_error("database", alias="away")
    assert said.startswith("Database 'away': Database error: ")
    assert "refused" in said.lower() or "connect" in said.lower()


@pytest.mark.parametrize("engine", sorted(ENGINES))
@pytest.mark.django_db
@pytest.mark.one_database
def test_unresponsive_database_is_unknown_in_time(engine: str) -> None:
    _needs_driver(engine)
    with (
        serve_socket(send_nothing) as port,
        aliases(engine, ENGINES[engine], "shop", {"mute": port}),
    ):
        found = measure(build_probe("database", {"alias": "mute"}), timeout=2)
    assert found.value is None
    assert found.error.startswith("No result within 2 s."), found
    assert found.latency_seconds < 30


@pytest.mark.django_db
@pytest.mark.one_database
def test_missing_sqlite_file_is_unknown_and_not_created(tmp_path: Path) -> None:
    path = tmp_path / "gone.sqlite3"
    with aliases("sqlite3", "", str(path), {"gone": 0}):
        assert measure_error("database", alias="gone") == f"There is no file {path}."
    assert not path.exists()


def test_unknown_alias_is_rejected() -> None:
    assert "not one of: default" in build_errors("database", alias="other")["alias"]
    assert "not one of: default" in build_errors("migrations", alias="other")["alias"]


def _needs_driver(engine: str) -> None:
    pytest.importorskip("MySQLdb" if engine == "mysql" else "psycopg")


# --- replication ----------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_without_a_replica_lag_is_unknown() -> None:
    said = measure_error("database", measure="replication_lag")
    expected = {
        "postgresql": "No replica is connected to this primary",
        "mysql": "This server is not a replica",
        "sqlite": "SQLite has no replication",
    }[connection.vendor]
    assert expected in said


def lag(alias: str) -> float | None:
    return measure(
        build_probe("database", {"alias": alias, "measure": "replication_lag"}), timeout=20
    ).value


def lag_error(alias: str) -> str:
    params = {"alias": alias, "measure": "replication_lag"}
    return measure(build_probe("database", params), timeout=20).error


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.django_db
@pytest.mark.one_database
def test_replica_of_postgres_falls_behind_and_catches_up() -> None:
    pytest.importorskip("psycopg")
    with postgres_pair() as pair:
        run(pair.primary, "CREATE TABLE numbers (number integer)")
        wait_until(lambda: lag(pair.replica) == 0, timeout=60)
        wait_until(lambda: lag(pair.primary) is not None, timeout=60)
        assert (
            "has the largest lag"
            in measure_value("database", alias=pair.primary, measure="replication_lag").message
        )

        run(pair.replica, "SELECT pg_wal_replay_pause()")
        wait_until(
            lambda: run(pair.replica, "SELECT pg_get_wal_replay_pause_state()")[0] == "paused"
        )
        run(pair.primary, "INSERT INTO numbers VALUES (1)")
        for alias in (pair.replica, pair.primary):
            first = wait_until(lambda alias=alias: lag(alias), timeout=60)
            wait_until(lambda alias=alias, first=first: (lag(alias) or 0) > first, timeout=60)
        run(pair.replica, "SELECT pg_wal_replay_resume()")
        wait_until(lambda: lag(pair.replica) == 0, timeout=60)
        wait_until(lambda: run(pair.replica, "SELECT count(*) FROM numbers")[0] == 1)

        pair.servers[pair.primary].kill()
        wait_until(lambda: "not connected to its primary" in lag_error(pair.replica), timeout=60)
        assert "Database error" in lag_error(pair.primary)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.django_db
@pytest.mark.one_database
def test_replica_of_mariadb_falls_behind_stops_and_catches_up() -> None:
    with mariadb_pair() as pair:
        assert "Replication is not running" in lag_error(pair.replica)
        assert "This server is not a replica" in lag_error(pair.primary)
        run(pair.replica, "START SLAVE")
        wait_until(lambda: lag(pair.replica) == 0, timeout=60)

        run(pair.primary, "CREATE DATABASE shop", "CREATE TABLE shop.numbers (number integer)")
        wait_until(lambda: _has_table(pair.replica), timeout=60)
        # A reader on the replica locks the table while the next change waits.
        blocker = connect(pair.replica)
        try:
            with blocker.cursor() as cursor:
                cursor.execute("LOCK TABLES shop.numbers READ")
                run(pair.primary, "INSERT INTO shop.numbers VALUES (1)")
                wait_until(lambda: (lag(pair.replica) or 0) >= 1, timeout=60)
                cursor.execute("UNLOCK TABLES")
        finally:
            blocker.close()
        wait_until(lambda: lag(pair.replica) == 0, timeout=60)

        run(pair.replica, "DROP TABLE shop.numbers")
        run(pair.primary, "INSERT INTO shop.numbers VALUES (2)")
        said = wait_until(lambda: lag_error(pair.replica), timeout=60)
        assert said.startswith("Replication is not running: ") and "shop.numbers" in said


def _has_table(alias: str) -> bool:
    (number,) = run(
        alias, "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'shop'"
    )
    return bool(number)


# --- migrations -----------------------------------------------------------------------------


@pytest.mark.django_db
def test_all_migrations_are_applied() -> None:
    found = measure_value("migrations")
    assert (found.value, found.message, found.unit) == (
        0,
        "all migrations are applied",
        "migrations",
    )


@pytest.mark.django_db
def test_unapplied_migration_is_named() -> None:
    recorder = MigrationRecorder(connection)
    recorder.record_unapplied("sessions", "0001_initial")
    found = measure_value("migrations")
    assert (found.value, found.message) == (1, "sessions.0001_initial")


@pytest.mark.django_db
def test_inconsistent_migration_history_is_unknown() -> None:
    recorder = MigrationRecorder(connection)
    recorder.record_unapplied("auth", "0001_initial")
    assert "inconsistent" in measure_error("migrations")


@pytest.mark.django_db(transaction=True)
def test_checking_migrations_creates_no_table() -> None:
    measured_number("migrations")
    with connection.cursor() as cursor:
        assert "django_migrations" in connection.introspection.table_names(cursor)
