"""Reviewing open incidents in a tick: reminders, ended maintenance windows, ended flapping."""

from __future__ import annotations

from datetime import datetime
from functools import partial

from chroniker.db.transactions import run_transaction
from chroniker.enums import NotificationEvent
from chroniker.models import Incident

from .flapping import end_flapping
from .maintenance import maintenance_ends_at, next_muted_review
from .notifications import next_reminder_at, notify, notify_opened_late

_BATCH = 100
"""The maximum per tick: each costs a few statements, and the tick must renew its leases."""


def review_due_incidents(now: datetime) -> None:
    """Review the incidents whose review is due."""
    due = Incident.objects.needing_review(now).select_related("job")
    for incident in due.order_by("next_review_at")[:_BATCH]:
        run_transaction(partial(_review, incident, now))


def _review(found: Incident, now: datetime) -> None:
    # Conditional: if two ticks review it at the same time, only one continues.
    mine = Incident.objects.filter(pk=found.pk, next_review_at=found.next_review_at)
    if not mine.update(next_review_at=None):
        return
    incident = Incident.objects.select_related("job").get(pk=found.pk)
    if not incident.is_open:
        if incident.flapping and incident.flapping_ended_at is None:
            end_flapping(incident, now)
        return
    ends_at = maintenance_ends_at(incident.job, now)
    if ends_at is not None:
        incident.next_review_at = next_muted_review(ends_at, now)
    elif incident.muted:
        incident.muted = False
        notify_opened_late(incident, now)
    elif incident.flapping:
        incident.flapping, incident.flapping_ended_at = False, now
        notify_opened_late(incident, now)
    elif incident.acknowledged_at is None and incident.notified_severity:
        incident.next_review_at = next_reminder_at(incident.job, now)
        notify(NotificationEvent.REMINDER, incident, now, discriminator=now.isoformat())
    incident.save(
        update_fields=[
            "next_review_at",
            "muted",
            "flapping",
            "flapping_ended_at",
            "notified_severity",
        ]
    )
