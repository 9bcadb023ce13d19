"""Daily digests: the incidents of a day in one email."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from functools import partial
from zoneinfo import ZoneInfo

from django.contrib.auth.base_user import AbstractBaseUser
from django.db.models import Q, QuerySet

from chroniker.db.transactions import run_transaction
from chroniker.enums import NotificationEvent
from chroniker.logs import log_context
from chroniker.models import Digest, Incident, Job

from .outbox import enqueue
from .recipients import MAIL, is_mail_address

logger = logging.getLogger(__name__)

_MAX_LISTED = 200
_BATCH = 500


def write_digests(now: datetime) -> None:
    """Write the digests that are due, and compute the first time of new ones.

    No email is sent for a day without incidents.
    """
    for digest in Digest.objects.due(now).select_related("user").order_by("next_at")[:_BATCH]:
        run_transaction(partial(_write, digest, now))


def _write(digest: Digest, now: datetime) -> None:
    # Conditional: if two ticks find it, only one of them writes it.
    mine = Digest.objects.filter(pk=digest.pk, next_at=digest.next_at)
    if not mine.update(next_at=next_time(digest.hour, digest.timezone, now), covered_until=now):
        return
    since, user = digest.covered_until, digest.user
    address = getattr(user, user.get_email_field_name())
    if since is None or not user.is_active or not is_mail_address(address):
        return
    rows = list(_incidents(user, since, now)[: _MAX_LISTED + 1])
    if not rows:
        return
    enqueue(
        NotificationEvent.DIGEST,
        [(MAIL, address)],
        now,
        job=None,
        discriminator=f"{user.pk} {now.isoformat()}",
        facts={
            "since": since.isoformat(),
            "until": now.isoformat(),
            "more": len(rows) > _MAX_LISTED,
            "incidents": [_entry(incident) for incident in rows[:_MAX_LISTED]],
        },
    )


def _incidents(user: AbstractBaseUser, since: datetime, now: datetime) -> QuerySet[Incident]:
    """The incidents of the user's jobs that were opened or resolved, or are still open."""
    jobs = Q(subscribers=user)
    if hasattr(user, "groups"):
        jobs |= Q(subscriber_groups__in=user.groups.all())
    subscribed = Q(job__in=Job.objects.filter(jobs).order_by().values("pk"))
    in_period = Q(opened_at__gt=since) | Q(resolved_at__gt=since) | Q(resolved_at=None)
    return (
        Incident.objects.filter(subscribed)
        .filter(in_period, opened_at__lte=now)
        .select_related("job")
        .order_by("resolved_at", "-opened_at")
    )


def _entry(incident: Incident) -> dict[str, object]:
    return {
        "pk": incident.pk,
        "job": incident.job.name if incident.job else incident.job_name,
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
    """The next time, in UTC, at which it is ``hour`` o'clock in ``zone``; UTC if unknown."""
    try:
        tz = ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        logger.error("%r is not a time zone; the digest uses UTC", zone, extra=log_context())
        tz = ZoneInfo("UTC")
    local = after.astimezone(tz).replace(hour=hour, minute=0, second=0, microsecond=0, fold=0)
    while local.astimezone(UTC) <= after:
        local += timedelta(days=1)  # in local time, because a day may have 23 hours
    return local.astimezone(UTC)
