"""The incidents of a day in one mail, for those who want one."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import Q

from chroniker.db.transactions import run_transaction
from chroniker.enums import NotificationEvent
from chroniker.models import Digest, Incident, Job

from . import outbox

logger = logging.getLogger(__name__)

_LISTED = 200


def write_digests(now: datetime) -> None:
    """Write those that are due, and give new ones their time. A quiet day makes no mail."""
    for digest in Digest.objects.due(now).select_related("user").order_by("next_at")[:500]:
        run_transaction(partial(_write, digest, now))


def _write(digest: Digest, now: datetime) -> None:
    # Conditional: of two ticks that see it, one writes.
    mine = Digest.objects.filter(pk=digest.pk, next_at=digest.next_at)
    if not mine.update(next_at=next_time(digest.hour, digest.timezone, now), covered_until=now):
        return
    since, user = digest.covered_until, digest.user
    address = getattr(user, user.get_email_field_name())
    if since is None or not user.is_active or not outbox.usable(address):
        return
    rows = list(_incidents(user, since, now)[: _LISTED + 1])
    if not rows:
        return
    outbox.write(
        NotificationEvent.DIGEST,
        [(outbox.MAIL, address)],
        now,
        job=None,
        number=f"{user.pk} {now.isoformat()}",
        facts={
            "since": since.isoformat(),
            "until": now.isoformat(),
            "more": len(rows) > _LISTED,
            "incidents": [_entry(incident) for incident in rows[:_LISTED]],
        },
    )


def _incidents(user: Any, since: datetime, now: datetime) -> Any:
    """What opened or ended, or is open, of the jobs that the user is subscribed to."""
    jobs = Q(subscribers=user)
    if hasattr(user, "groups"):
        jobs |= Q(subscriber_groups__in=user.groups.all())
    mine = Q(job__in=Job.objects.filter(jobs).order_by().values("pk"))
    happened = Q(opened_at__gt=since) | Q(resolved_at__gt=since) | Q(resolved_at=None)
    return (
        Incident.objects.filter(mine)
        .filter(happened, opened_at__lte=now)
        .select_related("job")
        .order_by("resolved_at", "-opened_at")
    )


def _entry(incident: Incident) -> dict[str, Any]:
    return {
        "pk": incident.pk,
        "job": incident.job.name,
        "host": incident.host,
        "kind": incident.kind,
        "severity": incident.severity,
        "summary": incident.summary,
        "opened_at": incident.opened_at.isoformat(),
        "resolved_at": incident.resolved_at and incident.resolved_at.isoformat(),
        "occurrences": incident.occurrences,
        "muted": incident.muted,
    }


def next_time(hour: int, zone: str, after: datetime) -> datetime:
    """The next time at which a clock in ``zone`` shows ``hour``, UTC."""
    try:
        there = ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        logger.error("%r is no time zone; the digest goes by UTC", zone)
        there = ZoneInfo("UTC")
    local = after.astimezone(there).replace(hour=hour, minute=0, second=0, microsecond=0, fold=0)
    while local.astimezone(UTC) <= after:
        local += timedelta(days=1)  # by the wall clock, also where a day has 23 hours
    return local.astimezone(UTC)
