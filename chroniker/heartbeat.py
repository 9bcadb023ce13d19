"""A host says that it ticks, and learns in one query what there is to do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import Exists, Value

from . import __version__
from .clock import DatabaseNow, StatementNow, boottime, statement_now_plus
from .conf import conf
from .models import Digest, Host, Incident, Job, JobState, Notification

_PARTS = (
    "unplanned", "due", "owned", "stale", "overdue", "attention", "digest", "outbox",
)  # fmt: skip
"""The yes-or-noes of a glance."""
_LONGEST_BREAK_SECONDS = 1200
"""After a longer one a host has just come up. Not every cron line ticks each minute."""


@dataclass(frozen=True, slots=True)
class Glance:
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
    attention: bool
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
            or self.attention
            or self.digest
            or self.outbox
            or (self.due and not self.paused)
        )


def note_duration(host: str, seconds: float) -> None:
    """Write down how long the host's tick took until its jobs were started."""
    Host.objects.filter(name=host).update(tick_seconds=seconds)


def note_first_tick(host: str) -> None:
    """Write down that the host's jobs have been planned."""
    Host.objects.filter(name=host, first_tick_at=None).update(first_tick_at=DatabaseNow())


def beat(host: str, pinned_now: datetime | None = None) -> Glance:
    """Note that ``host`` ticks now, and look at the database. An index serves each part.

    ``pinned_now`` stands in for the database's clock, for tests.
    """
    patience = conf.OVERDUE_SECONDS
    longest_break = max(patience, _LONGEST_BREAK_SECONDS)
    if not Host.objects.beat(host, __version__, longest_break):
        Host.objects.bulk_create([Host(name=host)], ignore_conflicts=True)
        Host.objects.beat(host, __version__, longest_break)
    states = JobState.objects
    moment: Any = StatementNow() if pinned_now is None else Value(pinned_now)
    # All hosts of an SQLite file are one machine, so that each can see who is dead.
    owned = (
        states.filter(lease_token__isnull=False)
        if connection.vendor == "sqlite"
        else states.leased_on(host)
    )
    long_ago: Any = (
        statement_now_plus(-patience)
        if pinned_now is None
        else Value(pinned_now - timedelta(seconds=patience))
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
            overdue=Exists(states.long_due(long_ago)),
            attention=Exists(Incident.objects.wanting_attention(moment)),
            digest=Exists(Digest.objects.due(moment)),
            outbox=Exists(Notification.objects.due(moment)),
        )
        .values("clock", "first_tick_at", "up_since", "paused", *_PARTS)
        .get()
    )
    # A host that has just come up judges nobody: what it finds overdue, it may be about to start.
    up_long = row["up_since"] <= row["clock"] - timedelta(seconds=patience)
    return Glance(
        new_host=row["first_tick_at"] is None,
        paused=row["paused"],
        clock=pinned_now or row["clock"],
        read_at=(before + boottime()) / 2,
        **{part: row[part] for part in _PARTS} | {"overdue": row["overdue"] and up_long},
    )
