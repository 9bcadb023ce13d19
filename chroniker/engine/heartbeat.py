"""A host says that it ticks, and learns in one query what there is to do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import Exists, Value

from chroniker import __version__
from chroniker.conf import conf
from chroniker.db.clock import DatabaseNow, StatementNow, boottime, statement_now_plus
from chroniker.models import Digest, Host, Incident, Job, JobState, Notification

_FLAGS = (
    "unplanned", "due", "owned", "stale", "overdue", "incident_review", "digest", "outbox",
)  # fmt: skip
"""The yes-or-noes of a glance."""
_MAX_GAP_SECONDS = 1200
"""After a longer one a host has just come up. Not every cron line ticks each minute."""


@dataclass(frozen=True, slots=True)
class PendingWork:
    """What a tick has to know. An idle one needs to know no more."""

    new_host: bool
    """Its jobs have not been planned yet."""
    paused: bool
    clock: datetime
    """The database's, on which all hosts agree."""
    read_at: float
    """When it was read, by CLOCK_BOOTTIME, seconds."""
    unplanned: bool
    """A definition has changed since next runs were computed from it."""
    due: bool
    owned: bool
    """Ticks of this host own runs; they may be dead."""
    stale: bool
    """Leases have run out, wherever their owners are."""
    overdue: bool
    """Jobs have been due for long, and nobody was told; some may only wait for others. To tell
    them apart would cost each idle tick more than all the rest."""
    incident_review: bool
    """Open incidents want to be looked at: a reminder, the end of a window or of flapping."""
    digest: bool
    """Somebody's digest is to be written."""
    outbox: bool
    """Notifications are to be sent."""

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not (
            self.new_host
            or self.unplanned
            or self.owned
            or self.stale
            or self.overdue
            or self.incident_review
            or self.digest
            or self.outbox
            or self.due
        )


def record_tick_duration(host: str, seconds: float) -> None:
    """Write down how long the host's tick took until its jobs were started."""
    Host.objects.filter(name=host).update(tick_seconds=seconds)


def record_first_tick(host: str) -> None:
    """Write down that the host's jobs have been planned."""
    Host.objects.filter(name=host, first_tick_at=None).update(first_tick_at=DatabaseNow())


def record_heartbeat(host: str, pinned_now: datetime | None = None) -> PendingWork:
    """Note that ``host`` ticks now, and look at the database. An index serves each part.

    ``pinned_now`` stands in for the database's clock, for tests.
    """
    overdue_after = conf.OVERDUE_SECONDS
    max_gap = max(overdue_after, _MAX_GAP_SECONDS)
    if not Host.objects.record_heartbeat(host, __version__, max_gap):
        Host.objects.bulk_create([Host(name=host)], ignore_conflicts=True)
        Host.objects.record_heartbeat(host, __version__, max_gap)
    states = JobState.objects
    moment: Any = StatementNow() if pinned_now is None else Value(pinned_now)
    # All hosts of an SQLite file are one machine, so that each can see who is dead.
    owned = (
        states.filter(lease_token__isnull=False)
        if connection.vendor == "sqlite"
        else states.leased_on(host)
    )
    overdue_before: Any = (
        statement_now_plus(-overdue_after)
        if pinned_now is None
        else Value(pinned_now - timedelta(seconds=overdue_after))
    )
    before = boottime()
    row = (
        Host.objects.filter(name=host)
        .annotate(
            clock=DatabaseNow(),
            unplanned=Exists(Job.objects.needing_planning()),
            due=Exists(states.due(moment).for_host(host)),
            owned=Exists(owned),
            stale=Exists(states.stale()),
            overdue=Exists(states.due_too_long(overdue_before)),
            incident_review=Exists(Incident.objects.needing_review(moment)),
            digest=Exists(Digest.objects.due(moment)),
            outbox=Exists(Notification.objects.due(moment)),
        )
        .values("clock", "first_tick_at", "up_since", "paused", *_FLAGS)
        .get()
    )
    # A host that has just come up judges nobody: what it finds overdue, it may be about to start.
    up_long = row["up_since"] <= row["clock"] - timedelta(seconds=overdue_after)
    return PendingWork(
        new_host=row["first_tick_at"] is None,
        paused=row["paused"],
        clock=pinned_now or row["clock"],
        read_at=(before + boottime()) / 2,
        **{part: row[part] for part in _FLAGS} | {"overdue": row["overdue"] and up_long},
    )
