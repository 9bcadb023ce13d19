"""Retired hosts: those that are gone leave metrics, lists and alerts, and return with a tick."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from functools import partial

from chroniker.alerting import incidents
from chroniker.conf import conf
from chroniker.db.transactions import run_transaction
from chroniker.enums import BlockedReason, IncidentEnd
from chroniker.exceptions import HostBusy
from chroniker.logs import log_context
from chroniker.models import Host, Incident, JobState
from chroniker.models.state import HostQuerySet

from .heartbeat import KEEP_RETIRED_SECONDS
from .planning import retired_host_detail

logger = logging.getLogger(__name__)

CLOSED = "The host was retired."
"""The reason with which the incidents of a retired host are closed."""
_RECENT = timedelta(minutes=5)
"""A host that ticked since counts as ticking, as in the alert ChronikerHostNotTicking."""
_KEEP_HOSTS = 200
"""At most so many retired hosts keep theirs: a fleet may start thousands of hosts in a week."""
_BATCH = 100
"""Retired in one tick: each costs a few statements, and the tick must renew its leases."""
_STATES = 500


def end_host(name: str, now: datetime) -> None:
    """Record that the cronserver of a host ended in order, and retire the host if it may be.

    The last host is left to the first tick of another one: if none ticks, that is an alert, and it
    names the time of the last tick.
    """
    Host.objects.filter(name=name).update(ended_at=now)
    others = Host.objects.active().exclude(name=name)
    if others.filter(ended_at=None, last_tick_at__gte=now - _RECENT).exists():
        _retire_one(name, now, Host.objects.retirable(None))
    else:
        Host.objects.request_review()


def retire_host(name: str, now: datetime) -> bool:
    """Retire a host at once, however long ago it ticked; False if it was retired before.

    Raises HostBusy while it owns runs whose leases have not run out.
    """
    owned = JobState.objects.leased_on(name)
    if alive := owned.exclude(pk__in=JobState.objects.stale().values("pk")).count():
        raise HostBusy(name, alive)
    return _retire_one(name, now, Host.objects.active())


def retirement_warnings(host: Host, now: datetime) -> list[str]:
    """What a person who retires a host should know, as sentences."""
    warnings = []
    if host.last_tick_at is not None and host.last_tick_at >= now - _RECENT:
        warnings.append(
            f"Host {host.name} has just ticked. Remove its cron line or stop its cronserver, or it "
            "is back with its next tick."
        )
    if pinned := JobState.objects.pinned_to(host.name).count():
        warnings.append(
            f"Enabled jobs are pinned to {host.name} ({pinned}) and do not start. Pin them to "
            "another host, or disable them."
        )
    return warnings


def retire_hosts(now: datetime) -> None:
    """Retire the hosts that ended in order or fell silent, and forget those retired for long."""
    silent_before = _silent_before(now)
    retirable = Host.objects.retirable(silent_before).order_by("last_tick_at")
    for name in list(retirable.values_list("name", flat=True)[:_BATCH]):
        _retire_one(name, now, Host.objects.retirable(silent_before))
    for incident in Incident.objects.without_host().select_related("job")[:_BATCH]:
        incidents.close(incident, IncidentEnd.RETIRED, CLOSED, now)
    retired_before = now - timedelta(seconds=KEEP_RETIRED_SECONDS)
    _forget_hosts(Host.objects.forgettable(retired_before))


def resume_host(name: str, now: datetime) -> None:
    """Take back a retired host that ticks: its jobs continue with their slots and counters."""

    def resume() -> None:
        JobState.objects.filter(host=name).update(host_retired=False)
        pinned = JobState.objects.pinned_to(name).filter(blocked_reason=BlockedReason.HOST)
        while keys := list(pinned.values_list("pk", flat=True)[:_STATES]):
            JobState.objects.filter(pk__in=keys).update(blocked_reason="", blocked_detail="")
        # Last, so that a tick that is interrupted above is repeated by the next one.
        Host.objects.filter(name=name).update(retired_at=None)

    run_transaction(resume)
    logger.info("Host %s is back", name, extra=log_context(host=name))


def _silent_before(now: datetime) -> datetime | None:
    hours = conf.HOST_RETIRE_HOURS
    return now - timedelta(hours=hours) if hours else None


def _retire_one(name: str, now: datetime, hosts: HostQuerySet) -> bool:
    """Retire a host if it is still one of ``hosts``; False if it has ticked, or was retired."""
    if not run_transaction(partial(_retire, name, now, hosts)):
        return False
    logger.info("Host %s was retired", name, extra=log_context(host=name))
    surplus = Host.objects.forgettable(now).order_by("-retired_at", "-pk")
    _forget_hosts(surplus, skip=_KEEP_HOSTS)
    return True


def _retire(name: str, now: datetime, hosts: HostQuerySet) -> bool:
    # The row lock makes a claim of this host wait, or this wait for it.
    mine = hosts.filter(name=name, retired_at__isnull=True)
    if not mine.update(retired_at=now):
        return False
    JobState.objects.filter(host=name).update(host_retired=True)
    detail = retired_host_detail(name, now)
    pinned = JobState.objects.pinned_to(name).filter(lease_token__isnull=True)
    unexplained = pinned.exclude(blocked_reason=BlockedReason.HOST, blocked_detail=detail)
    while keys := list(unexplained.values_list("pk", flat=True)[:_STATES]):
        JobState.objects.filter(pk__in=keys).update(
            blocked_reason=BlockedReason.HOST, blocked_detail=detail
        )
    for incident in Incident.objects.open().filter(host=name).select_related("job"):
        incidents.withdraw(incident, IncidentEnd.RETIRED, CLOSED, now)
    return True


def _forget_hosts(hosts: HostQuerySet, skip: int = 0) -> None:
    for host in hosts[skip : skip + _BATCH]:
        run_transaction(partial(_forget, host))


def _forget(host: Host) -> None:
    # Conditional: it may have ticked in the meantime. Its states are deleted by the receiver.
    if Host.objects.retired().filter(pk=host.pk).update(claims=host.claims):
        host.delete()
