"""Opening, updating and ending incidents.

Each problem has one incident, however often it is observed. Every change is made in the caller's
transaction, together with its notifications. The first statement of each function is a write, so
that SQLite takes its lock at once.

Only an opening is ever folded into another incident. Observations and ends are recorded and
reported for each incident, whatever its cause.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TypedDict

from django.db import IntegrityError
from django.db.models import Exists, F, OuterRef
from django.dispatch import Signal

from chroniker.conf import conf
from chroniker.db.alias import atomic, on_commit
from chroniker.db.transactions import run_transaction
from chroniker.enums import IncidentEnd, IncidentKind, NotificationEvent, Severity
from chroniker.models import Incident, Job, JobState, Run
from chroniker.models.incident import IncidentQuerySet
from chroniker.signals import incident_opened, incident_resolved

from .flapping import (
    announcement,
    cancel_older_reviews,
    end_flapping,
    quiet_ends_at,
    read_history,
)
from .maintenance import maintenance_ends_at, next_muted_review
from .notifications import next_reminder_at, notify, notify_ended
from .snapshot import store_snapshot
from .text import storable

RELEASE_SECONDS = 120
"""How long a blocked job waits after the end of the cause before its incident is announced: an
upstream job that succeeds starts it within seconds. An overdue job has as long to start as any
other."""
RECHECK_SECONDS = 300
"""How often a tick checks whether a job is still blocked, and by the same cause."""
_WITH_SNAPSHOT = (IncidentKind.FAILING, IncidentKind.CONDITION)
"""Kinds of which the machine may be the cause. The others are about something that did not run."""
_ATTEMPTS = 3


class _Observation(TypedDict, total=False):
    """The fields that each observation of a problem updates."""

    severity: str
    summary: str
    last_seen_at: datetime
    last_run: Run
    team: str


def open_or_update(
    job: Job | None,
    host: str,
    kind: str,
    severity: str,
    summary: str,
    now: datetime,
    *,
    run: Run | None = None,
    cause: Incident | None = None,
) -> Incident:
    """Open the incident of a job, placement and kind, or update the one that is open.

    Call it in a transaction. A notification is written when the incident opens, unless a
    maintenance window mutes it, it flaps, or ``cause`` is the incident that explains it; and when
    the severity becomes worse than the last one notified. An incident of a host has no ``job``.
    """
    same = Incident.objects.of_placement(job.pk if job else None, host, kind)
    observed = _Observation(severity=severity, summary=storable(summary), last_seen_at=now)
    if job is not None:
        observed["team"] = job.team
    if run is not None:
        observed["last_run"] = run
    for attempt in range(1, _ATTEMPTS + 1):
        if same.open().update(occurrences=F("occurrences") + 1, **observed):
            incident = same.open().get()
            incident.job = job
            _notify_if_worse(incident, now, run)
            return incident
        new = Incident(job=job, host=host, kind=kind, opened_at=now, first_run=run, **observed)
        new.job_name = job.name if job else ""
        event = _prepare_opening(new, same, cause, now)
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
        elif new.cause is not None:
            notify_of_cause(new, now)
        if new.cause is None and kind in _WITH_SNAPSHOT:
            store_snapshot(new)
        send_after_commit(incident_opened, new)
        return new
    raise AssertionError("unreachable")


def resolve(
    job: Job | None,
    host: str,
    kind: str,
    summary: str,
    now: datetime,
    *,
    run: Run | None = None,
    ended_by: IncidentEnd = IncidentEnd.RECOVERED,
) -> Incident | None:
    """End the open incident of a job, placement and kind; return None if none is open.

    Call it in a transaction. Whoever was notified of the incident is notified of its end.
    """
    same = Incident.objects.of_placement(job.pk if job else None, host, kind)
    changes = _Observation(last_seen_at=now)
    if run is not None:
        changes["last_run"] = run
    if not same.open().update(
        resolved_at=now,
        resolution=storable(summary),
        ended_by=ended_by,
        next_review_at=None,
        remind_at=None,
        **changes,
    ):
        return None
    incident = same.filter(resolved_at=now).order_by("-pk")[0]
    incident.job = job
    if incident.muted or incident.cause_id is not None:
        pass  # no one was notified of it
    elif ended_by != IncidentEnd.RECOVERED:
        # It cannot fail again soon, so flapping ends with it.
        if incident.flapping:
            end_flapping(incident, now)
        else:
            notify_ended(incident, incident, now, run)
    elif incident.flapping:
        Incident.objects.filter(pk=incident.pk).update(next_review_at=quiet_ends_at(now))
    elif read_history(same, now).has_too_many_flips:
        incident.flapping, incident.next_review_at = True, quiet_ends_at(now)
        incident.save(update_fields=["flapping", "next_review_at"])
        notify(NotificationEvent.FLAPPING, incident, now, run)
    else:
        notify_ended(incident, incident, now, run)
    release_folded(incident, now)
    send_after_commit(incident_resolved, incident)
    return incident


def close(incident: Incident, ended_by: IncidentEnd, reason: str, now: datetime) -> None:
    """End an incident in a transaction of its own, see :func:`withdraw`."""
    run_transaction(lambda: withdraw(incident, ended_by, reason, now))


def withdraw(incident: Incident, ended_by: IncidentEnd, reason: str, now: datetime) -> None:
    """End an incident because it no longer applies, with the reason.

    Call it in a transaction.
    """
    states = JobState.objects.filter(job=incident.job_id, host=incident.host)
    if incident.kind == IncidentKind.FAILING:
        states.update(failing_incident=False)
    elif incident.kind in (IncidentKind.OVERDUE, IncidentKind.BLOCKED):
        states.update(overdue_incident=False)
    resolve(incident.job, incident.host, incident.kind, reason, now, ended_by=ended_by)
    if incident.cause_id is not None:
        _withdraw_host(incident.cause_id, now)


def _withdraw_host(cause: int, now: datetime) -> None:
    """End the incident of a silent host when no job waits for the host any more."""
    waiting = Incident.objects.open().filter(cause=OuterRef("pk"))
    hosts = Incident.objects.open().filter(~Exists(waiting), pk=cause, kind=IncidentKind.HOST)
    for incident in hosts:
        withdraw(incident, IncidentEnd.CHANGED, "No job waits for it any more.", now)


def _prepare_opening(
    new: Incident, same: IncidentQuerySet, cause: Incident | None, now: datetime
) -> NotificationEvent | None:
    """Set whether a new incident is muted, folded or flapping; return the event to send, if any."""
    ends_at = maintenance_ends_at(new.job, now)
    if ends_at is not None:
        new.muted, new.next_review_at = True, next_muted_review(ends_at, now)
        return None
    if cause is not None:
        new.cause, new.next_review_at = cause, next_recheck(new, now)
        return None
    history = read_history(same, now, new_flips=1)
    new.notified_severity = new.severity
    if history.has_too_many_flips or history.is_flapping:
        new.flapping, new.next_review_at = True, quiet_ends_at(now)
        return None if history.is_flapping else NotificationEvent.FLAPPING
    new.remind_at = next_reminder_at(new.job, now)
    new.next_review_at = next_review_at(new, now)
    return NotificationEvent.OPENED


def next_recheck(incident: Incident, now: datetime) -> datetime | None:
    """When a tick looks at a folded or blocked incident again; None for other kinds."""
    if incident.cause_id is None and incident.kind != IncidentKind.BLOCKED:
        return None
    return now + timedelta(seconds=RECHECK_SECONDS)


def next_review_at(incident: Incident, now: datetime) -> datetime | None:
    """When an announced incident is reviewed: at its reminder, or to check it again."""
    moments = (incident.remind_at, next_recheck(incident, now))
    return min((moment for moment in moments if moment is not None), default=None)


def notify_of_cause(folded: Incident, now: datetime) -> None:
    """Notify the recipients of a folded incident of its cause, unless they know of it."""
    assert folded.cause is not None
    cause = Incident.objects.select_related("job").get(pk=folded.cause.pk)
    notify_again(cause, now)


def notify_again(cause: Incident, now: datetime) -> None:
    """Repeat the event by which people know of an incident, for those who do not know of it yet."""
    if not cause.is_open or cause.muted:
        return
    if cause.flapping:
        notify(NotificationEvent.FLAPPING, cause, now, announced=announcement(cause))
    else:
        notify(NotificationEvent.OPENED, cause, now)


def release_folded(cause: Incident, now: datetime) -> None:
    """Let a tick announce what is still wrong after the end of its cause."""
    folded = Incident.objects.open().filter(cause=cause.pk)
    blocked = folded.filter(kind=IncidentKind.BLOCKED)
    blocked.update(next_review_at=now + timedelta(seconds=RELEASE_SECONDS))
    overdue = folded.exclude(kind=IncidentKind.BLOCKED)
    overdue.update(next_review_at=now + timedelta(seconds=conf.OVERDUE_SECONDS))


def _notify_if_worse(incident: Incident, now: datetime, run: Run | None) -> None:
    notified = incident.notified_severity
    if not notified or Severity(incident.severity).rank <= Severity(notified).rank:
        return
    if incident.flapping or maintenance_ends_at(incident.job, now) is not None:
        return
    incident.notified_severity = incident.severity
    # The acknowledgement was for the lower severity.
    incident.acknowledged_at = incident.acknowledged_by = None
    incident.remind_at = next_reminder_at(incident.job, now)
    incident.next_review_at = next_review_at(incident, now)
    incident.save(
        update_fields=[
            "notified_severity", "acknowledged_at", "acknowledged_by", "remind_at",
            "next_review_at",
        ]
    )  # fmt: skip
    notify(NotificationEvent.WORSENED, incident, now, run, discriminator=incident.severity)


def send_after_commit(signal: Signal, incident: Incident) -> None:
    """Send a signal of :mod:`chroniker.signals` about an incident, once it is stored."""
    on_commit(lambda: signal.send_robust(sender=Incident, incident=incident, job=incident.job))
