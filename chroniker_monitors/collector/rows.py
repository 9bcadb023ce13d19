"""Read the database for a scrape: a constant number of queries, no model instances."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from itertools import chain, groupby
from operator import itemgetter
from types import MappingProxyType
from typing import TYPE_CHECKING

from django.db import connections, transaction
from django.db.models import (
    Case,
    Count,
    Expression,
    F,
    FloatField,
    Func,
    OuterRef,
    Subquery,
    TextField,
    Value,
    When,
)
from django.db.models.functions import Cast, Coalesce
from django.db.models.sql.constants import MULTI
from django.utils.timezone import now as utc_now

from chroniker.db.alias import database_alias
from chroniker.enums import RunStatus
from chroniker_monitors.conf import conf

from .deadline import DeadlineExceeded, SharedCall
from .forecasts import Placement, read_forecasts
from .gc_pause import gc_paused
from .numbers import (
    BUCKET_COLUMNS,
    FINISH_BY,
    HOST,
    HOSTNAME,
    JOB_COLUMNS,
    MONITOR_COLUMNS,
    N_JOB,
    N_MONITOR,
    NO_FORECAST,
    NO_SAMPLE,
    NO_STATE,
    SAMPLE_COLUMNS,
    STATE_COLUMNS,
    TIME_COLUMNS,
    TIMEZONE,
    Row,
)

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models.sql.compiler import SQLCompiler

logger = logging.getLogger(__name__)

_MONITOR_HOSTNAME = MONITOR_COLUMNS.index("hostname")
_MONITOR_UNIT = MONITOR_COLUMNS.index("unit")

JobRows = tuple[Row, list[Row]]
"""A definition, and the rows of its placements, each of which begins with the definition."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was read from the database, or that it did not answer.

    The rows of jobs are as the driver returned them: they are compared with those of the scrape
    before. Naive times are in ``zone``, as Django stores them if the database has no time zones.
    """

    up: bool = False
    jobs: list[JobRows] = field(default_factory=list)
    monitors: list[JobRows] = field(default_factory=list)
    hosts: list[Row] = field(default_factory=list)
    alert_counts: dict[str, int] = field(default_factory=dict)
    """Counts of incidents and notifications, by name; missing ones are 0."""
    dropped_jobs: int = 0
    zone: tzinfo | None = None
    seconds: float = 0
    """How long reading took."""


def take_snapshot() -> Snapshot:
    """Read the database within ``CHRONIKER_METRICS_TIMEOUT_SECONDS``. Never raises.

    Inside a transaction, its connection is used, because no other one sees what the transaction
    wrote. Otherwise (always, for a scrape) a thread reads over its own connection, so that a
    hanging database costs the scrape no more than its time limit. Simultaneous scrapes share
    one read.
    """
    snapshot = Snapshot()
    began = time.monotonic()
    try:
        alias = database_alias()
        if connections[alias].in_atomic_block:
            with transaction.atomic(using=alias):
                snapshot = read(alias, conf.METRICS_MAX_JOBS)
        else:
            snapshot = _shared_read(alias, conf.METRICS_MAX_JOBS, conf.METRICS_TIMEOUT_SECONDS)
    except DeadlineExceeded as error:
        logger.warning("The database did not answer a scrape in time: %s", error)
    except Exception as error:
        logger.warning("The database could not be read for a scrape: %r", error)
    return replace(snapshot, seconds=time.monotonic() - began)


def read(alias: str, max_jobs: int) -> Snapshot:
    """Read jobs, monitors and hosts, and count the jobs beyond ``max_jobs``."""
    from chroniker.db.clock import StatementNow
    from chroniker.models import Host, Job, JobState

    jobs = Job.objects.using(alias).order_by("pk")
    first_dropped = jobs.values("pk")[max_jobs : max_jobs + 1]
    compiler = (
        jobs.filter(pk__lt=Coalesce(Subquery(first_dropped), Value(2**63 - 1)))
        .order_by()
        .annotate(muted=_muted(alias))
        .values_list(*JOB_COLUMNS, *map(_state_column, STATE_COLUMNS))
        .query.get_compiler(using=alias)
    )
    found = compiler.execute_sql(MULTI)
    with gc_paused():
        # Sorted here, because PostgreSQL would sort on disk.
        rows = sorted(chain.from_iterable(found), key=itemgetter(0))
    running = (
        JobState.objects.using(alias)
        # Not those whose lease has run out: nobody is there to end them.
        .filter(lease_expires_at__gt=StatementNow(), lease_host=OuterRef("name"))
        .filter(lease_token__isnull=False)
        .order_by()
        .values("lease_host")
        .annotate(number=Count("pk"))
        .values("number")
    )
    hosts = list(
        Host.objects.using(alias)
        .active()
        .order_by("name")
        .values_list(
            "name", "last_tick_at", "tick_seconds", Coalesce(Subquery(running), 0), "paused"
        )
    )
    names = [host[0] for host in hosts]
    deadlines = {row[0]: (row[FINISH_BY], row[TIMEZONE]) for row in rows if row[FINISH_BY]}
    forecasts = read_forecasts(alias, deadlines, utc_now())
    with gc_paused():
        grouped = group_by_job(rows, names, forecasts)
        measured = group_by_monitor(_monitor_rows(alias, rows[-1][0] if rows else 0), names)
    # Jobs can only be dropped if the page is full; only then is the extra query needed.
    dropped = jobs.count() - max_jobs if len(grouped) >= max_jobs else 0
    return Snapshot(
        up=True,
        jobs=grouped,
        monitors=measured,
        hosts=hosts,
        alert_counts=_read_alert_counts(alias),
        dropped_jobs=max(dropped, 0),
        zone=connections[alias].timezone,
    )


def _muted(alias: str) -> Case | Value:
    """Return an expression: whether a window mutes the job. It lists the muted jobs."""
    from chroniker.db.clock import StatementNow
    from chroniker.models import Maintenance

    covered: set[int | None] = set()
    windows = Maintenance.objects.using(alias).active(StatementNow())
    for entry, job in windows.order_by().values_list("entries", "entries__job"):
        if entry is None:  # a window without jobs applies to all jobs
            return Value(True)
        covered.add(job)
    covered.discard(None)  # deleted jobs
    if not covered:
        return Value(False)
    return Case(When(pk__in=covered, then=Value(True)), default=Value(False))


def _read_alert_counts(alias: str) -> dict[str, int]:
    from chroniker.models import Counter, Incident, Notification

    incidents = Incident.objects.using(alias).open().order_by().values_list("severity")
    alert_counts = {
        f"open_{severity}": number for severity, number in incidents.annotate(Count("pk"))
    }
    alert_counts["pending"] = Notification.objects.using(alias).pending().count()
    failures = Counter.objects.using(alias).read("notification_failures")
    return alert_counts | {"notification_failures": failures}


def group_by_job(
    rows: Iterable[Row],
    hosts: Sequence[str],
    forecasts: Mapping[Placement, Row] = MappingProxyType({}),
) -> list[JobRows]:
    """Group rows by job: its definition, and the placements that its present definition has.

    Placements left over from an older definition are dropped, and so are those on hosts that are
    retired or were deleted: nobody would ever update their series. Those that the scheduler has not
    written yet are added: for a job that runs on every host, one per active host. Each row of a
    placement ends with its forecast.
    """
    jobs = []
    for _, group in groupby(rows, itemgetter(0)):
        states = list(group)
        job = states[0][:N_JOB]
        placements = _complete_placements(job, job[HOSTNAME] == "*", states, NO_STATE, hosts)
        jobs.append(
            (job, [(*row, *forecasts.get((row[0], row[HOST]), NO_FORECAST)) for row in placements])
        )
    return jobs


def group_by_monitor(rows: Iterable[Row], hosts: Sequence[str]) -> list[JobRows]:
    """Group rows by monitor. If the probe has no unit, the unit of the last sample is used."""
    monitors = []
    for _, group in groupby(rows, itemgetter(0)):
        states = list(group)
        monitor = states[0][:N_MONITOR]
        every_host = monitor[_MONITOR_HOSTNAME] == "*"
        placements = _complete_placements(monitor, every_host, states, NO_SAMPLE, hosts)
        if not monitor[_MONITOR_UNIT]:
            unit = next((row[-1] for row in placements if row[-1]), "")
            monitor = (*monitor[:_MONITOR_UNIT], unit, *monitor[_MONITOR_UNIT + 1 :])
        monitors.append((monitor, placements))
    return monitors


def _complete_placements(
    definition: Row, every_host: bool, states: Sequence[Row], missing: Row, hosts: Sequence[str]
) -> list[Row]:
    host = len(definition)
    if not every_host:
        return [row for row in states if row[host] == ""] or [(*definition, "", *missing)]
    written = {row[host]: row for row in states if row[host]}
    return [written.get(name) or (*definition, name, *missing) for name in sorted(hosts)]


def _monitor_rows(alias: str, last_job: int) -> list[Row]:
    """Return the rows of the monitors up to the last job that is shown."""
    from chroniker_monitors.models import Probe

    columns = (
        *("job_id", "job__name", "job__hostname", "kind", "unit", "operator"),
        *("warning", "critical"),
        *(_sample_column(column) for column in SAMPLE_COLUMNS),
    )
    probes = Probe.objects.using(alias).filter(job__lte=last_job).order_by()
    return sorted(probes.values_list(*columns), key=itemgetter(0))


def _sample_column(column: str) -> Expression | F:
    path = f"job__monitor_states__{column}"
    return Cast(path, TextField()) if column == "series" else F(path)


def _state_column(column: str) -> Expression | F:
    """Return the query's expression for a column. JSON is read as text; only changes are parsed."""
    if column in TIME_COLUMNS:
        return _Timestamp(f"states__{column}")
    if column in BUCKET_COLUMNS:
        return Cast(f"states__{column}", TextField())
    if column == "last_run_seconds":
        return _last_run_seconds()
    return F(f"states__{column}")


def _last_run_seconds() -> Case:
    """Return an expression: the duration of the last run; NULL if it never started or was lost.

    ``last_duration_seconds`` of the state may be the duration of an older run. It is the right
    one if the last run succeeded; otherwise, which is rare, the run itself is read.
    """
    from chroniker.models import Run

    seconds = Run.objects.filter(pk=OuterRef("states__last_run_id")).values("duration_seconds")
    return Case(
        When(states__last_status=RunStatus.SUCCEEDED, then=F("states__last_duration_seconds")),
        default=Subquery(seconds[:1]),
    )


class _Timestamp(Func):
    """A time as the driver returns it; from PostgreSQL, seconds since 1970.

    Django converts PostgreSQL's timestamps in Python, which costs more than all other columns.
    """

    template = "%(expressions)s"
    arity = 1
    output_field = FloatField()

    def as_postgresql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: str | None
    ) -> tuple[str, Sequence[object]]:
        return self.as_sql(
            compiler, connection, template="DATE_PART('epoch', %(expressions)s)", **context
        )


def _read_in_thread(alias: str, max_jobs: int, seconds: float) -> Snapshot:
    """Read over a new connection. The thread was started for this call and ends with it."""
    connection = connections[alias] = _copy_with_timeouts(connections[alias], seconds)
    try:
        with transaction.atomic(using=alias):
            _limit_statements(connection, seconds)
            return read(alias, max_jobs)
    finally:
        connection.close()


_shared_read: SharedCall[Snapshot] = SharedCall(_read_in_thread)


def _copy_with_timeouts(connection: BaseDatabaseWrapper, seconds: float) -> BaseDatabaseWrapper:
    """Copy a connection with timeouts, so that its thread ends soon after the scrape gave up.

    The scrape itself is answered in time even without them.
    """
    copy = connection.copy()
    options = {**copy.settings_dict.get("OPTIONS", {})}
    whole = max(2, round(seconds))
    if connection.vendor == "postgresql":
        options.pop("pool", None)
        options |= {
            "connect_timeout": whole,
            "keepalives_idle": whole,
            "keepalives_interval": 1,
            "keepalives_count": 2,
            "tcp_user_timeout": 1000 * whole,
        }
    elif connection.vendor == "mysql":
        options |= {"connect_timeout": whole, "read_timeout": whole, "write_timeout": whole}
    elif connection.vendor == "sqlite":
        options["timeout"] = min(seconds, options.get("timeout", seconds))
    copy.settings_dict["OPTIONS"] = options
    return copy


def _limit_statements(connection: BaseDatabaseWrapper, seconds: float) -> None:
    """Set PostgreSQL's own statement timeout, which includes waits for locks.

    ``SET LOCAL``: behind a connection pooler, a session setting would affect the next client.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = {round(1000 * seconds)}")
