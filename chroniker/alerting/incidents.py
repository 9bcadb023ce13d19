"""Opening, updating and resolving incidents.

Each problem has one incident, however often it is observed. Every change is made in the caller's
transaction, together with its notifications. The first statement of each function is a write, so
that SQLite takes its lock at once.
"""

from __future__ import annotations

from datetime import datetime
from typing import TypedDict

from django.db import IntegrityError
from django.db.models import F
from django.dispatch import Signal

from chroniker.db.alias import atomic, on_commit
from chroniker.db.transactions import run_transaction
from chroniker.enums import IncidentKind, NotificationEvent, Severity
from chroniker.models import Incident, Job, JobState, Run
from chroniker.models.incident import IncidentQuerySet
from chroniker.signals import incident_opened, incident_resolved

from .flapping import cancel_older_reviews, quiet_ends_at, read_history
from .maintenance import maintenance_ends_at, next_muted_review
from .notifications import next_reminder_at, notify, notify_resolved
from .text import storable

_ATTEMPTS = 3


class _Observation(TypedDict, total=False):
    """The fields that each observation of a problem updates."""

    severity: str
    summary: str
    last_seen_at: datetime
    last_run: Run


def open_or_update(
    job: Job,
    host: str,
    kind: str,
    severity: str,
    summary: str,
    now: datetime,
    *,
    run: Run | None = None,
) -> Incident:
    """Open the incident of a job, placement and kind, or update the one that is open.

    Call it in a transaction. A notification is written when the incident opens, unless a
    maintenance window mutes it or it flaps, and when the severity becomes worse than the last one
    notified.
    """
    same = Incident.objects.of_placement(job.pk, host, kind)
    observed = _Observation(severity=severity, summary=storable(summary), last_seen_at=now)
    if run is not None:
        observed["last_run"] = run
    for attempt in range(1, _ATTEMPTS + 1):
        if same.open().update(occurrences=F("occurrences") + 1, **observed):
            incident = same.open().get()
            incident.job = job
            _notify_if_worse(incident, now, run)
            return incident
        new = Incident(job=job, host=host, kind=kind, opened_at=now, first_run=run, **observed)
        event = _prepare_opening(new, same, now)
        try:
            with atomic():
                new.save(force_insert=True)
        except IntegrityError:
            if attempt == _ATTEMPTS:
                raise
            continue  # another process has opened it at the same moment
        if new.flapping:
            cancel_older_reviews(new)
        if event is not None:
            notify(event, new, now, run)
        _send_after_commit(incident_opened, new)
        return new
    raise AssertionError("unreachable")


def resolve(
    job: Job, host: str, kind: str, summary: str, now: datetime, *, run: Run | None = None
) -> Incident | None:
    """Resolve the open incident of a job, placement and kind; return None if none is open.

    Call it in a transaction. Whoever was notified of the incident is notified of its end.
    """
    same = Incident.objects.of_placement(job.pk, host, kind)
    changes = _Observation(last_seen_at=now)
    if run is not None:
        changes["last_run"] = run
    if not same.open().update(
        resolved_at=now, resolution=storable(summary), next_review_at=None, **changes
    ):
        return None
    incident = same.filter(resolved_at=now).order_by("-pk")[0]
    incident.job = job
    if incident.muted:
        pass  # no one was notified of it
    elif incident.flapping:
        Incident.objects.filter(pk=incident.pk).update(next_review_at=quiet_ends_at(now))
    elif read_history(same, now).has_too_many_flips:
        incident.flapping, incident.next_review_at = True, quiet_ends_at(now)
        incident.save(update_fields=["flapping", "next_review_at"])
        notify(NotificationEvent.FLAPPING, incident, now, run)
    else:
        notify_resolved(incident, incident, now, run)
    _send_after_commit(incident_resolved, incident)
    return incident


def close(incident: Incident, reason: str, now: datetime) -> None:
    """Close an incident in a transaction of its own, see :func:`withdraw`."""
    run_transaction(lambda: withdraw(incident, reason, now))


def withdraw(incident: Incident, reason: str, now: datetime) -> None:
    """Resolve an incident because it no longer applies to its job, not because it recovered.

    Call it in a transaction.
    """
    states = JobState.objects.filter(job=incident.job_id, host=incident.host)
    if incident.kind == IncidentKind.FAILING:
        states.update(failing_incident=False)
    elif incident.kind == IncidentKind.OVERDUE:
        states.update(overdue_incident=False)
    resolve(incident.job, incident.host, incident.kind, reason, now)


def _prepare_opening(
    new: Incident, same: IncidentQuerySet, now: datetime
) -> NotificationEvent | None:
    """Set whether a new incident is muted or flapping; return the event to send, if any."""
    ends_at = maintenance_ends_at(new.job, now)
    if ends_at is not None:
        new.muted, new.next_review_at = True, next_muted_review(ends_at, now)
        return None
    history = read_history(same, now, new_flips=1)
    new.notified_severity = new.severity
    if history.has_too_many_flips or history.is_flapping:
        new.flapping, new.next_review_at = True, quiet_ends_at(now)
        return None if history.is_flapping else NotificationEvent.FLAPPING
    new.next_review_at = next_reminder_at(new.job, now)
    return NotificationEvent.OPENED


def _notify_if_worse(incident: Incident, now: datetime, run: Run | None) -> None:
    notified = incident.notified_severity
    if not notified or Severity(incident.severity).rank <= Severity(notified).rank:
        return
    if incident.flapping or maintenance_ends_at(incident.job, now) is not None:
        return
    incident.notified_severity = incident.severity
    # The acknowledgement was for the lower severity.
    incident.acknowledged_at = incident.acknowledged_by = None
    incident.next_review_at = next_reminder_at(incident.job, now)
    incident.save(
        update_fields=["notified_severity", "acknowledged_at", "acknowledged_by", "next_review_at"]
    )
    notify(NotificationEvent.WORSENED, incident, now, run, discriminator=incident.severity)


def _send_after_commit(signal: Signal, incident: Incident) -> None:
    on_commit(lambda: signal.send_robust(sender=Incident, incident=incident, job=incident.job))
