"""The heartbeat of a host, and one query that shows what there is to do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import DatabaseError
from django.db.models import Exists, Expression, QuerySet, Value

from chroniker import __version__
from chroniker.conf import conf
from chroniker.db.alias import database
from chroniker.db.clock import DatabaseNow, StatementNow, boottime, statement_now_plus
from chroniker.db.prepared import PreparedQuery
from chroniker.db.schema import check_readable, refuse_newer_schema
from chroniker.db.transactions import is_forbidden, is_missing_schema, is_outage
from chroniker.models import Digest, Host, Incident, Job, JobState, Maintenance, Notification

_FLAGS = (
    "unplanned", "due", "owned", "stale", "overdue", "incident_review", "digest", "outbox",
    "host_incident", "windows_to_repeat",
)  # fmt: skip
"""Boolean columns of the query."""
_Row = dict[str, Any]
_prepared: dict[tuple[str, float], PreparedQuery] = {}
_MAX_GAP_SECONDS = 1200
"""After a longer gap a host counts as just started. Not every cron line ticks each minute."""
KEEP_RETIRED_SECONDS = 7 * 86400
"""How long a retired host keeps its row and its counters."""
_HOST_REVIEW_SECONDS = 600
"""How often a host looks for hosts to retire: hosts fall silent rarely, and the look is costly."""


@dataclass(frozen=True, slots=True)
class PendingWork:
    """Which kinds of work are waiting. An idle tick needs nothing else."""

    new_host: bool
    """The jobs that run on every host are not planned for it yet."""
    returned: bool
    """This host was retired, and ticks again."""
    paused: bool
    clock: datetime
    """The database's, on which all hosts agree."""
    read_at: float
    """When the answer with the clock came, CLOCK_BOOTTIME, seconds. A tick whose database answers
    slowly is late by that much. The middle between question and answer would make it early."""
    unplanned: bool
    """A definition has changed since its next run was computed."""
    due: bool
    owned: bool
    """Ticks of this host own runs, and may be dead."""
    stale: bool
    """Leases have run out, on any host."""
    overdue: bool
    """Jobs have been due for a long time without an incident. Some may only wait for other jobs; to
    tell them apart would cost an idle tick more than everything else."""
    incident_review: bool
    """Open incidents need a review: a reminder, the end of a window or of flapping."""
    digest: bool
    """A digest is due."""
    outbox: bool
    """Notifications are due."""
    host_incident: bool
    """An incident is open because this host was silent."""
    windows_to_repeat: bool
    """Recurring maintenance windows have started: their next ones are to be created."""
    hosts_changed: bool
    """Hosts are to be retired or forgotten, or incidents of such hosts to be closed."""

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not (
            self.new_host
            or self.returned
            or self.unplanned
            or self.owned
            or self.stale
            or self.overdue
            or self.incident_review
            or self.digest
            or self.outbox
            or self.due
            or self.hosts_changed
            or self.host_incident
            or self.windows_to_repeat
        )


def record_tick_duration(host: str, seconds: float) -> None:
    """Store how long the host's tick took until its jobs were started."""
    Host.objects.filter(name=host).update(tick_seconds=seconds)


def record_first_tick(host: str) -> None:
    """Store that the host's jobs have been planned."""
    Host.objects.filter(name=host, first_tick_at=None).update(first_tick_at=DatabaseNow())


def _beat(host: str, max_gap: float) -> int:
    try:
        return Host.objects.record_heartbeat(host, __version__, max_gap)
    except DatabaseError as error:
        if is_outage(error) and not (is_missing_schema(error) or is_forbidden(error)):
            raise
        refuse_newer_schema(__version__)  # it may have removed a column
        if check_readable():
            raise
        return Host.objects.record_heartbeat(host, __version__, max_gap)


def record_heartbeat(host: str, pinned_now: datetime | None = None) -> PendingWork:
    """Record the heartbeat of ``host``, and look for work. Each part is served by an index.

    ``pinned_now`` replaces the database's clock, for tests. Raises NewerSchema.
    """
    overdue_after = conf.OVERDUE_SECONDS
    max_gap = max(overdue_after, _MAX_GAP_SECONDS)
    if not _beat(host, max_gap):
        refuse_newer_schema(__version__)
        Host.objects.bulk_create([Host(name=host)], ignore_conflicts=True)
        Host.objects.record_heartbeat(host, __version__, max_gap)
    row = _read_pending(host, overdue_after, pinned_now)
    read_at = boottime()
    now = pinned_now or row["clock"]
    # A host that has just started reports nothing as overdue: it may be about to start it.
    up_long = row["up_since"] <= row["clock"] - timedelta(seconds=overdue_after)
    return PendingWork(
        new_host=row["first_tick_at"] is None,
        returned=row["retired_at"] is not None,
        paused=row["paused"],
        clock=now,
        read_at=read_at,
        hosts_changed=_review_hosts(host, row["hosts_reviewed_at"], now),
        **{part: row[part] for part in _FLAGS} | {"overdue": row["overdue"] and up_long},
    )


def _read_pending(host: str, overdue_after: float, pinned_now: datetime | None) -> _Row:
    """Send the one query. A scheduler that ticks in a loop compiles it once."""
    if pinned_now is not None:
        only: _Row = _pending_rows(host, overdue_after, pinned_now).get()
        return only
    key = (host, overdue_after)
    prepared = _prepared.get(key)
    if prepared is None or not prepared.usable():
        _prepared.clear()
        prepared = _prepared[key] = PreparedQuery(_pending_rows(host, overdue_after, None))
    row = prepared.first()
    if row is None:
        raise Host.DoesNotExist
    return row


def _pending_rows(
    host: str, overdue_after: float, pinned_now: datetime | None
) -> QuerySet[Host, Any]:
    states = JobState.objects
    moment: Expression = StatementNow() if pinned_now is None else Value(pinned_now)
    # All hosts of an SQLite file are one machine, so each can see which owners are dead.
    owned = (
        states.filter(lease_token__isnull=False)
        if database().vendor == "sqlite"
        else states.leased_on(host)
    )

    def ago(seconds: float) -> Expression:
        if pinned_now is None:
            return statement_now_plus(-seconds)
        return Value(pinned_now - timedelta(seconds=seconds))

    rows: QuerySet[Host, Any] = (
        Host.objects.filter(name=host)
        .annotate(
            clock=DatabaseNow(),
            unplanned=Exists(Job.objects.needing_planning()),
            due=Exists(states.due(moment).for_host(host)),
            owned=Exists(owned),
            stale=Exists(states.stale()),
            overdue=Exists(states.due_too_long(ago(overdue_after))),
            incident_review=Exists(Incident.objects.needing_review(moment)),
            digest=Exists(Digest.objects.due(moment)),
            outbox=Exists(Notification.objects.due(moment)),
            host_incident=Exists(Incident.objects.filter(open_host=host)),
            windows_to_repeat=Exists(Maintenance.objects.recurring().filter(starts_at__lte=moment)),
        )
        .values(
            "clock",
            "first_tick_at",
            "up_since",
            "paused",
            "retired_at",
            "hosts_reviewed_at",
            *_FLAGS,
        )
    )
    return rows


def _review_hosts(host: str, reviewed_at: datetime | None, now: datetime) -> bool:
    """Whether a tick has to retire or forget hosts; False if that was looked up a short time ago.

    A host that finds something looks again with its next tick.
    """
    retire_after = 3600 * conf.HOST_RETIRE_HOURS
    pause = min(_HOST_REVIEW_SECONDS, retire_after / 10 or _HOST_REVIEW_SECONDS)
    if reviewed_at is not None and timedelta() <= now - reviewed_at < timedelta(seconds=pause):
        return False
    silent_before = now - timedelta(seconds=retire_after) if retire_after else None
    changed = (
        Host.objects.retirable(silent_before).exists()
        or Host.objects.forgettable(now - timedelta(seconds=KEEP_RETIRED_SECONDS)).exists()
        or Incident.objects.without_host().exists()
    )
    if not changed:
        Host.objects.filter(name=host).update(hosts_reviewed_at=now)
    return changed
