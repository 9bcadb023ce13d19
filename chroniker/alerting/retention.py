"""Deleting old incidents and notifications."""

from __future__ import annotations

from datetime import datetime

from django.db.models import Exists, OuterRef

from chroniker.models import Incident, Notification

_BATCH = 500


def delete_old_incidents(before: datetime) -> int:
    """Delete incidents resolved before a moment, with their notifications; return how many.

    Sent and dropped notifications without an incident are deleted as well. Open incidents and
    pending notifications are kept.
    """
    deleted = 0
    pending = Notification.objects.pending().filter(incident=OuterRef("pk"))
    resolved = Incident.objects.filter(resolved_at__lt=before).exclude(Exists(pending))
    done = Notification.objects.filter(incident=None, next_attempt_at=None, created_at__lt=before)
    while keys := list(resolved.order_by("pk").values_list("pk", flat=True)[:_BATCH]):
        Incident.objects.filter(pk__in=keys).delete()
        deleted += len(keys)
    while keys := list(done.order_by("pk").values_list("pk", flat=True)[:_BATCH]):
        Notification.objects.filter(pk__in=keys).delete()
    return deleted
