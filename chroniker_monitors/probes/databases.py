"""The site's databases: latency, replication lag, unapplied migrations."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from chroniker_monitors.exceptions import ProbeError

from .base import BaseProbe, Reading
from .error_messages import explain
from .limited_connections import limited_connection, open_connection
from .params import param
from .records import database_choices
from .registry import register_probe

_PRIMARY_LAG = """
    SELECT coalesce(nullif(application_name, ''), client_addr::text, pid::text), state,
           sent_lsn IS NULL,
           CASE WHEN replay_lsn = pg_current_wal_lsn() THEN 0
                ELSE extract(epoch FROM replay_lag) END
    FROM pg_stat_replication
"""
_REPLICA_LAG = """
    SELECT (SELECT count(*) FROM pg_stat_wal_receiver),
           pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn(),
           extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()),
           pg_is_wal_replay_paused()
"""


@register_probe
@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseProbe(BaseProbe):
    """The latency or replication lag of a database."""

    kind: ClassVar[str] = "database"
    label: ClassVar[str] = "Database"
    description: ClassVar[str] = "Seconds to connect and SELECT 1, or the lag of a replica."
    unit: ClassVar[str] = "seconds"

    alias: str = param("default", label="Database", choices=database_choices)
    measure: str = param(
        "latency",
        label="Measure",
        choices=(
            ("latency", "Seconds to connect and SELECT 1"),
            ("replication_lag", "Replication lag, seconds"),
        ),
    )

    def run(self) -> Reading:
        """Open a new connection: an open one does not show whether new ones can be opened."""
        try:
            return self._latency() if self.measure == "latency" else self._replication_lag()
        except DatabaseError as error:
            raise ProbeError(f"Database {self.alias!r}: {explain(error)}") from error

    def _latency(self) -> Reading:
        began = time.monotonic()
        with open_connection(self.alias, read_only=False) as connection:
            with connection.cursor() as cursor:
                cursor.execute(f"SELECT 1{connection.features.bare_select_suffix}")
                cursor.fetchone()
            seconds = time.monotonic() - began
        return Reading(seconds, f"{connection.display_name} {self.alias!r} answers")

    def _replication_lag(self) -> Reading:
        configured = connections[self.alias]
        if configured.vendor not in ("postgresql", "mysql"):
            raise ProbeError(
                f"{configured.display_name} has no replication. Measure the latency instead."
            )
        with open_connection(self.alias, read_only=True) as connection:
            if connection.vendor == "mysql":
                return _mariadb_replica(connection)
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_is_in_recovery()")
                replica = cursor.fetchone()[0]
                return _postgres_replica(cursor) if replica else _postgres_primary(cursor)


def _postgres_primary(cursor: CursorWrapper) -> Reading:
    cursor.execute(_PRIMARY_LAG)
    rows = cursor.fetchall()
    if not rows:
        raise ProbeError("No replica is connected to this primary, so there is no lag to measure.")
    lags = []
    for name, state, hidden, lag in rows:
        if hidden:
            raise ProbeError(
                "The database user is not allowed to see the replicas. GRANT pg_monitor to it."
            )
        if lag is None:
            if state != "streaming":
                raise ProbeError(f"Replica {name} is not streaming yet (state {state}).")
            continue  # it has replayed nothing since it connected
        lags.append((float(lag), name))
    if not lags:
        raise ProbeError("The replicas have not reported their lag yet.")
    lag, name = max(lags)
    return Reading(max(lag, 0.0), f"{len(rows)} replicas; {name} has the largest lag")


def _postgres_replica(cursor: CursorWrapper) -> Reading:
    cursor.execute(_REPLICA_LAG)
    receivers, all_replayed, since, paused = cursor.fetchone()
    age = None if since is None else max(float(since), 0.0)
    if not receivers:
        # Everything received may be replayed, but the primary may have written more since.
        seen = "" if age is None else f" The last transaction arrived {age:.0f} s ago."
        raise ProbeError(f"This replica is not connected to its primary.{seen}")
    if all_replayed:
        return Reading(0.0, "everything received has been replayed")
    if age is None:
        raise ProbeError("This replica has replayed nothing yet.")
    return Reading(age, "replay is paused" if paused else "behind the primary")


def _mariadb_replica(connection: BaseDatabaseWrapper) -> Reading:
    mariadb = getattr(connection, "mysql_is_mariadb", False)
    every = "ALL REPLICAS" if mariadb else "REPLICA"
    with connection.cursor() as cursor:
        cursor.execute(f"SHOW {every} STATUS")
        names = [column[0] for column in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    if not rows:
        raise ProbeError(
            "This server is not a replica. Add the replica to DATABASES, and measure the lag there."
        )
    lags = []
    for row in rows:
        lag = row.get("Seconds_Behind_Master", row.get("Seconds_Behind_Source"))
        if lag is None:
            errors = [row.get(f"Last_{kind}_Error") for kind in ("IO", "SQL")]
            why = "; ".join(filter(None, errors)) or "its threads are stopped"
            raise ProbeError(f"Replication is not running: {why}.")
        lags.append(float(lag))
    return Reading(max(lags), "behind the primary")


@register_probe
@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationsProbe(BaseProbe):
    """Migrations that are not applied to the database."""

    kind: ClassVar[str] = "migrations"
    label: ClassVar[str] = "Unapplied migrations"
    description: ClassVar[str] = "Number of migrations that `manage.py migrate` would apply."
    unit: ClassVar[str] = "migrations"
    modules: ClassVar[tuple[str, ...]] = ("django.db.migrations.executor",)

    alias: str = param("default", label="Database", choices=database_choices)

    def run(self) -> Reading:
        """Compare the migrations of the installed apps with those recorded in the database."""
        from django.db.migrations.exceptions import InconsistentMigrationHistory
        from django.db.migrations.executor import MigrationExecutor

        if self.alias not in connections:
            raise ProbeError(f"There is no database {self.alias!r}.")
        with limited_connection(self.alias) as connection:
            try:
                executor = MigrationExecutor(connection)
                executor.loader.check_consistent_history(connection)
            except InconsistentMigrationHistory as error:
                raise ProbeError(f"The migration history is inconsistent: {error}") from error
            conflicts = executor.loader.detect_conflicts()
            if conflicts:
                raise ProbeError(f"Migrations of {', '.join(conflicts)} conflict with each other.")
            plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
        names = [f"{migration.app_label}.{migration.name}" for migration, _ in plan]
        many = ", …" if len(names) > 5 else ""
        return Reading(
            len(names), ", ".join(names[:5]) + many if names else "all migrations are applied"
        )
