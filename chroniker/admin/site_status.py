"""Whether anything starts at all: the hosts, and the maintenance windows that cover all jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Value
from django.http import HttpRequest
from django.utils.timezone import now as utc_now

from chroniker.models import Host, Maintenance

SILENT_AFTER = timedelta(minutes=5)
"""The same threshold as in the alert ChronikerHostNotTicking and in the dashboards."""

_HOST, _WINDOW = 0, 1
_CACHED = "_chroniker_site_status"


@dataclass(frozen=True, slots=True)
class HostStatus:
    """A host that is not retired."""

    pk: int
    name: str
    last_tick_at: datetime | None
    paused: bool

    def ticks(self, now: datetime) -> bool:
        """Whether it has ticked lately."""
        return self.last_tick_at is not None and self.last_tick_at >= now - SILENT_AFTER


@dataclass(frozen=True, slots=True)
class OpenWindow:
    """A maintenance window that is active and covers all jobs."""

    pk: int
    reason: str
    ends_at: datetime
    pauses: bool


@dataclass(frozen=True, slots=True)
class SiteStatus:
    """What decides whether any job starts."""

    hosts: Sequence[HostStatus]
    windows: Sequence[OpenWindow]
    now: datetime

    @property
    def host_names(self) -> set[str]:
        """The names of all active hosts."""
        return {host.name for host in self.hosts}

    @property
    def last_tick_at(self) -> datetime | None:
        """When any host last ticked."""
        times = [host.last_tick_at for host in self.hosts if host.last_tick_at is not None]
        return max(times, default=None)

    @property
    def ticking(self) -> list[HostStatus]:
        """The hosts that tick."""
        return [host for host in self.hosts if host.ticks(self.now)]

    @property
    def starting(self) -> list[HostStatus]:
        """The hosts that tick and are not paused: at least one is needed to start a job."""
        return [host for host in self.ticking if not host.paused]


def load_site_status(request: HttpRequest | None = None) -> SiteStatus:
    """Read hosts and windows with one query, and only once per request."""
    known = getattr(request, _CACHED, None)
    if isinstance(known, SiteStatus):
        return known
    now = utc_now()
    hosts = (
        Host.objects.active()
        .order_by()
        .values_list(Value(_HOST), "pk", "name", "last_tick_at", "paused")
    )
    windows = (
        Maintenance.objects.active(now)
        .filter(entries__isnull=True)
        .order_by()
        .values_list(Value(_WINDOW), "pk", "reason", "ends_at", "pause")
    )
    rows = sorted(hosts.union(windows, all=True), key=lambda row: (row[0], row[2], row[1]))
    status = SiteStatus(
        hosts=[HostStatus(pk, name, at, bool(is_paused)) for kind, pk, name, at, is_paused in rows
               if kind == _HOST],
        windows=[OpenWindow(pk, reason, at, bool(pauses)) for kind, pk, reason, at, pauses in rows
                 if kind == _WINDOW and at is not None],
        now=now,
    )  # fmt: skip
    if request is not None:
        setattr(request, _CACHED, status)
    return status
