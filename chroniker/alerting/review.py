"""Looking for late jobs, and reviewing open incidents, in a tick."""

from __future__ import annotations

from datetime import datetime
from functools import partial

from chroniker.db.transactions import run_transaction
from chroniker.enums import IncidentKind, NotificationEvent
from chroniker.models import Incident, JobState

from . import blocked
from .blocked import open_blocked
from .flapping import end_flapping
from .incidents import next_review_at, notify_of_cause
from .maintenance import maintenance_ends_at, next_muted_review
from .notifications import next_reminder_at, notify, notify_opened_late
from .overdue import open_overdue, overdue_summary
from .silent_hosts import bound_to, find_cause, open_silent_hosts

_BATCH = 100
"""The maximum per tick: each costs a few statements, and the tick must renew its leases."""


def open_late_jobs(now: datetime) -> None:
    """Open the incidents of jobs that have been due for long, the causes first."""
    silent = open_silent_hosts(now)
    open_overdue(now, bound_to(silent) if silent else None)
    open_blocked(now)


def review_due_incidents(now: datetime) -> None:
    """Review the incidents whose review is due."""
    due = Incident.objects.needing_review(now).select_related("job", "cause")
    for incident in due.order_by("next_review_at")[:_BATCH]:
        run_transaction(partial(_review, incident, now))


def _review(found: Incident, now: datetime) -> None:
    # Conditional: if two ticks review it at the same time, only one continues.
    mine = Incident.objects.filter(pk=found.pk, next_review_at=found.next_review_at)
    if not mine.update(next_review_at=None):
        return
    incident = Incident.objects.select_related("job", "cause").get(pk=found.pk)
    if not incident.is_open:
        if incident.flapping and incident.flapping_ended_at is None:
            end_flapping(incident, now)
        return
    cause = incident.cause_id
    unannounced = incident.muted or not incident.notified_severity
    if incident.kind == IncidentKind.BLOCKED and not blocked.recheck(incident, now):
        return
    _review_open(incident, now, unannounced=unannounced)
    incident.save(
        update_fields=[
            "summary", "cause", "next_review_at", "remind_at", "muted", "flapping",
            "flapping_ended_at", "notified_severity",
        ]
    )  # fmt: skip
    if incident.cause_id not in (None, cause):
        notify_of_cause(incident, now)


def _review_open(incident: Incident, now: datetime, *, unannounced: bool) -> None:
    """Decide what is announced now, and when it is reviewed next."""
    ends_at = maintenance_ends_at(incident.job, now)
    if ends_at is not None:
        incident.next_review_at = next_muted_review(ends_at, now)
        return
    if unannounced:
        _review_unannounced(incident, now)
    elif incident.flapping:
        incident.flapping, incident.flapping_ended_at = False, now
        notify_opened_late(incident, now)
    elif incident.acknowledged_at is not None or not incident.notified_severity:
        incident.remind_at = None
    elif incident.remind_at is not None and incident.remind_at <= now:
        incident.remind_at = next_reminder_at(incident.job, now)
        notify(NotificationEvent.REMINDER, incident, now, discriminator=now.isoformat())
    incident.next_review_at = next_review_at(incident, now)


def _review_unannounced(incident: Incident, now: datetime) -> None:
    """Fold it into its cause, or announce it: it was muted, or its cause may have ended."""
    if incident.kind == IncidentKind.OVERDUE:
        _find_host(incident, now)
    incident.muted = False
    if incident.cause is None or not incident.cause.is_open:
        incident.cause = None
        notify_opened_late(incident, now)


def _find_host(incident: Incident, now: datetime) -> None:
    state = JobState.objects.filter(job=incident.job_id, host=incident.host)
    found = state.select_related("job").first()
    if found is None:
        return
    incident.cause = find_cause(found, now)
    if incident.cause is None:
        incident.summary = overdue_summary(found)[:500]
