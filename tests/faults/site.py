"""The site of an experiment: a temporary database with an audit, and jobs.

The audit is kept by triggers, so that it is written in the product's own transactions, regardless
of what the product does: each row of the table of runs, as it was after each change, in order.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.db import Error, IntegrityError, connections, transaction
from django.db.backends.signals import connection_created
from django.utils.connection import ConnectionProxy

from tests import databases
from tests.faults import journal, servers
from tests.faults.current import ALIAS, DEPLOYMENT
from tests.faults.history import History, JobFacts, RunChange, RunFacts, StateFacts
from tests.settings import SCRATCH

if TYPE_CHECKING:
    from tests.support.pgbouncer import PgBouncer

connection: Any = ConnectionProxy(connections, ALIAS)
"""The database with the tables of Chroniker, as Django's own is ``default``."""

COUNTERS = (
    "runs_total", "failures_error", "failures_timeout", "failures_stopped", "failures_lost",
    "interrupted_total",
    "missed_overlap", "missed_downtime", "missed_deadline", "missed_paused",
    "missed_dependency", "retries_total", "duration_count",
    "start_lag_count", "duration_seconds_sum", "cpu_seconds_total",
)  # fmt: skip
_COLUMNS = (
    "job_id", "host", "scheduled_for", "attempt", "trigger", "status", "missed_slots",
    "missed_reason", "ran_on", "exit_code", "signal", "duration_seconds", "cpu_seconds",
    "started_at", "ended_at", "error",
)  # fmt: skip
_TYPES = {
    "error": "text",
    "job_id": "bigint", "attempt": "int", "missed_slots": "int", "exit_code": "int",
    "signal": "int", "duration_seconds": "double precision", "cpu_seconds": "double precision",
}  # fmt: skip
_MOMENTS = ("scheduled_for", "started_at", "ended_at")
LOCK_LIMIT_VARIABLE = "CHRONIKER_FAULTS_LOCK_LIMIT"
"""How long a session of the site waits for a lock, unless the scheduler has changed that."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(moment: datetime | None) -> int | None:
    """A moment as whole microseconds since 1970."""
    return None if moment is None else (moment - _EPOCH) // timedelta(microseconds=1)


# --- the database ---------------------------------------------------------------------------


@contextmanager
def own_database(directory: Path | None = None) -> Iterator[None]:
    """A database for this process and block; ``directory``: that of the SQLite file."""
    with _slot() as slot:
        name = f"test_chroniker_faults_{slot}"
        if connection.vendor == "sqlite":
            assert directory is not None
            disk = directory / "disk"  # may be filled on purpose if it could be mounted
            name = str((disk if disk.exists() else directory) / "site.sqlite3")
        before = connection.settings_dict["NAME"]
        for alias in connections:
            if alias == "replica":
                connections[alias].settings_dict["NAME"] = name
        connection.settings_dict["TEST"]["NAME"] = name
        connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
        os.environ["CHRONIKER_TEST_DB_NAME"] = name
        try:
            _start_audit()
            with _own_pooler():
                yield
        finally:
            _drop_database(before)


pooler: PgBouncer | None = None
"""The PgBouncer of this process, if it has one."""
_POOL_SIZES = {"transaction": 20, "session": 60}
"""How many connections to the server PgBouncer has. In session mode a tick keeps one."""


@contextmanager
def _own_pooler() -> Iterator[None]:
    global pooler
    if not DEPLOYMENT.pool_mode:
        yield
        return
    from tests.support.pgbouncer import PgBouncer

    mode = DEPLOYMENT.pool_mode
    pooler = PgBouncer(connection.settings_dict, mode, _POOL_SIZES[mode])
    try:
        start_pooler()
        yield
    finally:
        pooler.remove()
        pooler = None


def start_pooler() -> None:
    """Start PgBouncer, which may have been killed."""
    assert pooler
    with servers.as_children_of_init():
        pooler.start()


def address() -> tuple[str, int]:
    """Where the hosts find the database."""
    if pooler is not None:
        return "127.0.0.1", pooler.port
    return connection.settings_dict["HOST"], int(connection.settings_dict["PORT"])


def _drop_database(before: str) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            connection.creation.destroy_test_db(before, verbosity=0)
        except Exception:
            # A session of a process that was just killed may still exist.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


@contextmanager
def _slot() -> Iterator[int]:
    """The lowest number that no other experiment uses now."""
    number = 0
    while True:
        with (SCRATCH / f"faults-{number}.lock").open("w") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not inherited by forks
            except OSError:
                number += 1
                continue
            yield number
            return


def _start_audit() -> None:
    new = ", ".join(f"NEW.{_quote(column)}" for column in _COLUMNS)
    columns = ", ".join(_quote(column) for column in _COLUMNS)
    kind = "text" if connection.vendor == "sqlite" else "varchar(1000)"
    definitions = ", ".join(
        f"{_quote(column)} {_TYPES.get(column) or _moment_type(column) or kind}"
        for column in _COLUMNS
    )
    number = {
        "sqlite": "integer PRIMARY KEY AUTOINCREMENT",
        "postgresql": "bigserial PRIMARY KEY",
        "mysql": "bigint AUTO_INCREMENT PRIMARY KEY",
    }[connection.vendor]
    insert = (
        f"INSERT INTO faults_audit (run_id, status_before, {columns}) VALUES (NEW.id, %s, {new});"
    )
    table = "chroniker_run"
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TABLE faults_audit (number {number}, run_id bigint, status_before {kind}, "
            f"{definitions})"
        )
        if connection.vendor == "postgresql":
            cursor.execute(
                "CREATE FUNCTION faults_audit() RETURNS trigger AS $$ BEGIN "
                f"IF TG_OP = 'INSERT' THEN {insert.replace('%s', 'NULL')} "
                f"ELSE {insert.replace('%s', 'OLD.status')} END IF; RETURN NEW; "
                "END $$ LANGUAGE plpgsql"
            )
            cursor.execute(
                f"CREATE TRIGGER faults_audit AFTER INSERT OR UPDATE ON {table} "
                "FOR EACH ROW EXECUTE FUNCTION faults_audit()"
            )
            return
        for event, before in (("INSERT", "NULL"), ("UPDATE", "OLD.status")):
            cursor.execute(
                f"CREATE TRIGGER faults_audit_{event.lower()} AFTER {event} ON {table} "
                f"FOR EACH ROW BEGIN {insert.replace('%s', before)} END"
            )


def _moment_type(column: str) -> str:
    if column not in _MOMENTS:
        return ""
    return {"postgresql": "timestamptz", "mysql": "datetime(6)"}.get(connection.vendor, "text")


def _quote(name: str) -> str:
    quoted: str = connection.ops.quote_name(name)
    return quoted


def empty() -> None:
    """Remove the rows of the previous experiment."""
    databases.delete_all_rows([ALIAS])
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM faults_audit")
        if connection.vendor == "mysql":
            cursor.execute("SET SESSION innodb_lock_wait_timeout = 50")


def database_now() -> datetime:
    """The clock of the database, read with a row that each database has."""
    from django.db.migrations.recorder import MigrationRecorder

    from chroniker.db.clock import DatabaseNow

    rows = MigrationRecorder(connection).migration_qs.annotate(clock=DatabaseNow())
    return rows.values_list("clock", flat=True)[0]


def lock_limit() -> str:
    """How long this session waits for a lock."""
    query = {
        "sqlite": "PRAGMA busy_timeout",
        "postgresql": "SHOW lock_timeout",
        "mysql": "SELECT @@innodb_lock_wait_timeout",
    }[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(query)
        return str(cursor.fetchone()[0])


def limit_own_lock_waits() -> None:
    """Let statements of this process, but not of its forks, give up on locks.

    The owner of a lock may be a process that is frozen, and that this process has to thaw.
    """
    process = os.getpid()
    limit = {
        "postgresql": "SET lock_timeout = '5s'",
        "mysql": "SET SESSION innodb_lock_wait_timeout = 5",
    }.get(connection.vendor)  # SQLite's limit is that of the site

    def set_limit(connection: Any, **_: object) -> None:
        if limit and os.getpid() == process and connection.alias == ALIAS:
            with connection.cursor() as cursor:
                cursor.execute(limit)

    connection_created.connect(set_limit, weak=False, dispatch_uid="faults: lock waits")


def note_left_setting(note: Callable[..., object], where: str) -> None:
    """Record if a setting of the scheduler is left on this process's connection."""
    if connection.connection is None:
        return
    try:
        value = lock_limit()
    except Error:
        return
    if value != os.environ[LOCK_LIMIT_VARIABLE]:
        note("setting_left", where=where, value=f"a lock timeout of {value}")


# --- what is known at the end ---------------------------------------------------------------


def read_changes() -> list[RunChange]:
    """All changes of runs, in their order."""
    with connection.cursor() as cursor:
        columns = ", ".join(_quote(column) for column in _COLUMNS)
        cursor.execute(f"SELECT run_id, status_before, {columns} FROM faults_audit ORDER BY number")
        rows = cursor.fetchall()
    return [_change(row) for row in rows]


def _change(row: tuple[Any, ...]) -> RunChange:
    run, before, *values = row
    facts = dict(zip(_COLUMNS, values, strict=True))
    for column in _MOMENTS:
        facts[column] = micros(_moment(facts[column]))
    return RunChange(
        before,
        RunFacts(
            run=run,
            job=facts["job_id"],
            host=facts["host"],
            slot=facts["scheduled_for"],
            attempt=facts["attempt"],
            trigger=facts["trigger"],
            status=facts["status"],
            missed_slots=facts["missed_slots"],
            missed_reason=facts["missed_reason"],
            ran_on=facts["ran_on"],
            exit_code=facts["exit_code"],
            signal=facts["signal"],
            seconds=facts["duration_seconds"],
            cpu_seconds=facts["cpu_seconds"],
            started=facts["started_at"],
            ended=facts["ended_at"],
            error=facts["error"],
        ),
    )


def _moment(value: Any) -> datetime | None:
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if value is not None and value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    return value  # type: ignore[no-any-return]


def read_history(jobs: list[JobFacts], directory: Path) -> History:
    """The history from database, journal and scrapes after everything has ended."""
    from chroniker.models import Incident, JobState, OutputChunk, Run

    scrapes = directory / "scrapes.jsonl"
    late = {
        chunk.run_id
        for chunk in OutputChunk.objects.filter(run__ended_at__isnull=False)
        .select_related("run")
        .only("written_at", "run__ended_at")
        if chunk.run.ended_at and chunk.written_at > chunk.run.ended_at
    }
    rows = dict(Run.objects.values_list("pk", "status"))
    return History(
        jobs=jobs,
        changes=without_withdrawn(read_changes(), set(rows)),
        rows=rows,
        states=[
            StateFacts(
                job=state.job_id,
                host=state.host,
                next_slot=micros(state.next_slot_at),
                counters={name: getattr(state, name) for name in COUNTERS},
                last_status=state.last_status,
                consecutive_failures=state.consecutive_failures,
                leased=state.lease_token is not None,
                current_run=state.current_run_id,
            )
            for state in JobState.objects.order_by("pk")
        ],
        journal=journal.read(directory),
        scrapes=[json.loads(line) for line in scrapes.read_text().splitlines()]
        if scrapes.exists()
        else [],
        late_output=sorted(late),
        accepted_duplicates=_find_accepted_duplicates(),
        incidents=[
            f"{incident.job} {incident.kind}"
            for incident in Incident.objects.select_related("job").order_by("pk")
        ],
    )


def without_withdrawn(changes: list[RunChange], rows: set[int]) -> list[RunChange]:
    """The changes without those of runs that were withdrawn before a worker took them."""
    last = {change.after.run: change.after for change in changes}
    withdrawn = {
        key for key, run in last.items()
        if key not in rows and run.status == "running" and not run.ran_on
    }  # fmt: skip
    return [change for change in changes if change.after.run not in withdrawn]


def _find_accepted_duplicates() -> list[str]:
    """Try rows that the database must reject."""
    from chroniker.models import Job, JobState, Run

    job = Job.objects.create(name="(refused)", command="noop", enabled=False)
    now = datetime.now(UTC)
    found = []
    running = {"job": job, "status": "running", "started_at": now}
    tries: list[tuple[str, Any, dict[str, Any], dict[str, Any]]] = [
        ("two running runs of a job", Run, {**running, "scheduled_for": now},
         {**running, "scheduled_for": now + timedelta(seconds=1)}),
        ("the same attempt twice", Run, {"job": job, "status": "failed", "scheduled_for": now},
         {"job": job, "status": "lost", "scheduled_for": now}),
        ("two states of a job", JobState, {"job": job}, {"job": job}),
    ]  # fmt: skip
    for what, model, first, second in tries:
        try:
            with transaction.atomic(using=ALIAS):
                model.objects.create(**first)
                model.objects.create(**second)
                found.append(f"the database takes {what}")
                transaction.set_rollback(True, using=ALIAS)
        except IntegrityError:
            pass
    job.delete()
    return found


# --- scrapes --------------------------------------------------------------------------------


def scrape() -> dict[str, float]:
    """The counters of the metrics page, by series."""
    from chroniker_monitors.collector.prometheus import ChronikerCollector

    found = {}
    for metric in ChronikerCollector().collect():
        if not metric.name.startswith("chroniker_job_"):
            continue
        if metric.type not in ("counter", "histogram"):
            continue
        for sample in metric.samples:
            if not sample.name.endswith(("_total", "_count", "_bucket")):
                continue
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def hosts_in_lists() -> list[str]:
    """The hosts that are not retired."""
    from chroniker.models import Host

    return list(Host.objects.active().values_list("name", flat=True))


def hosts_on_page() -> list[str]:
    """The values of the label ``host`` on the page that Prometheus reads."""
    from django.test import Client

    page = Client().get("/metrics")
    assert page.status_code == 200, page.content
    return sorted(set(re.findall(r'[{,]host="([^"]+)"', page.content.decode())))


class MetricsScraper:
    """A process that scrapes the metrics every second, as Prometheus would."""

    def __init__(self, directory: Path, seconds: float = 1.0) -> None:
        connections.close_all()
        self.pid = os.fork()
        if self.pid:
            return
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            with (directory / "scrapes.jsonl").open("a", buffering=1) as file:
                while True:
                    found = scrape()
                    if found:  # empty: the database did not reply in time
                        file.write(json.dumps(found) + "\n")
                    time.sleep(seconds)
        finally:
            os._exit(1)

    def stop(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


# --- a place for files ----------------------------------------------------------------------


@contextmanager
def own_directory(*, tmpfs_mib: int = 0) -> Iterator[Path]:
    """A directory for this block; ``tmpfs_mib``: on its own file system of this size."""
    directory = Path(tempfile.mkdtemp(prefix="faults-", dir=SCRATCH))
    mounted = False
    try:
        if tmpfs_mib and os.getuid() == 0:
            (directory / "disk").mkdir()
            mounted = not subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={tmpfs_mib}m", "faults",
                 str(directory / "disk")],
                capture_output=True,
            ).returncode  # fmt: skip
        yield directory
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(directory / "disk")], check=True)
        if not os.environ.get("CHRONIKER_FAULTS_KEEP"):
            shutil.rmtree(directory, ignore_errors=True)
