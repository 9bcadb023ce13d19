"""Ticks: whether hosts tick, and whether jobs can be scheduled."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from django.utils.timesince import timesince

from chroniker.conf import conf
from chroniker.enums import BlockedReason
from chroniker.models import Host, JobState

from .cron_line import crontab_line
from .database import read_database_clock
from .findings import Area, Finding, Level
from .registry import Installation, Needs, examination

SILENT = timedelta(minutes=5)
"""As in the alert ChronikerHostNotTicking."""


def ticked_recently(now: datetime) -> bool:
    """Whether this host has ticked within the last minutes; ``now`` is the database's time."""
    return Host.objects.filter(name=conf.HOSTNAME, last_tick_at__gte=now - SILENT).exists()


@examination(Area.TICKS, Needs.TABLES)
def examine_ticks(installation: Installation) -> Iterator[Finding]:
    """Check when each host last ticked."""
    now = read_database_clock()
    hosts = list(Host.objects.active().filter(last_tick_at__isnull=False))
    silent = [host for host in hosts if host.last_tick_at and host.last_tick_at < now - SILENT]
    ticking = [host.name for host in hosts if host not in silent]
    if not ticking:
        last = max((host.last_tick_at for host in hosts if host.last_tick_at), default=None)
        yield Finding(
            Area.TICKS,
            "ticks.stopped" if last else "ticks.never",
            Level.ERROR,
            f"No host has ticked for {_since(last, now)}, so no job runs."
            if last
            else "No host has ever ticked, so no job runs.",
            f"On each host that should run jobs, add this line to the crontab: {crontab_line()}",
        )
        return
    for host in silent:
        yield Finding(
            Area.TICKS,
            "ticks.host-silent",
            Level.WARNING,
            f"Host {host.name} has not ticked for {_since(host.last_tick_at, now)}.",
            f"Start its ticks again, or run `python manage.py retire_host {host.name}` if it is "
            "gone.",
        )
    here = "this host" if conf.HOSTNAME in ticking else f"not this host ({conf.HOSTNAME})"
    yield Finding(
        Area.TICKS,
        "ticks",
        Level.OK,
        f"{len(ticking)} hosts tick, {here}.".replace("1 hosts tick", "1 host ticks"),
    )
    if Host.objects.filter(name=conf.HOSTNAME, paused=True).exists():
        yield Finding(
            Area.TICKS,
            "ticks.paused",
            Level.WARNING,
            f"This host, {conf.HOSTNAME}, is paused: it starts no jobs.",
            "Resume it on the page of hosts in the admin.",
        )


@examination(Area.TICKS, Needs.TABLES)
def examine_jobs(installation: Installation) -> Iterator[Finding]:
    """Find enabled jobs that cannot be scheduled."""
    reasons = (BlockedReason.SCHEDULE, BlockedReason.COMMAND, BlockedReason.HOST)
    blocked = (
        JobState.objects.current()
        .filter(job__enabled=True, blocked_reason__in=reasons)
        .select_related("job")
        .order_by("job__name")[:10]
    )
    for state in blocked:
        yield Finding(
            Area.TICKS,
            "ticks.job-blocked",
            Level.WARNING,
            f"Job {state.job.name!r} cannot start: "
            f"{state.blocked_detail or BlockedReason(state.blocked_reason).label}",
            "Open it in the admin, and fix what its form reports.",
        )


def _since(moment: datetime | None, now: datetime) -> str:
    assert moment is not None
    return timesince(moment, now, depth=1).replace("\xa0", " ")
