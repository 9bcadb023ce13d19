"""Incidents: one opening and one end for whatever is wrong, however often it is seen.

Every change is made in the caller's transaction, with the notifications that tell of it. The
first statement of each is a write, so that SQLite gives the lock at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Exists, F, Max, OuterRef, Q

from chroniker.conf import conf
from chroniker.db.transactions import run_transaction
from chroniker.enums import IncidentKind, NotificationEvent, Severity
from chroniker.models import Incident, Job, JobState, Maintenance, Notification, Run
from chroniker.signals import incident_opened, incident_resolved

from . import outbox

_DAY = timedelta(days=1)
_LOOK_AGAIN = timedelta(minutes=5)
"""How soon a muted incident is looked at again, should its window be ended early."""
_MOST_FLIPS_READ = 100
_BATCH = 100
"""How many a tick looks after: each costs a few statements, and the tick has leases to renew."""
_ATTEMPTS = 3
_DELETE_BATCH = 500

TELLING = (
    NotificationEvent.OPENED,
    NotificationEvent.WORSENED,
    NotificationEvent.REMINDER,
    NotificationEvent.FLAPPING,
)
"""What makes a recovery worth telling to the same recipient."""


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
    """Open the incident of a job, host slot and kind or, where one is open, note this in it.

    To be called in a transaction. Whoever is to know gets a notification: of an opening, unless a
    maintenance window mutes it or it flaps; of a severity worse than what was told.
    """
    slot = Incident.objects.of_placement(job.pk, host, kind)
    seen: dict[str, Any] = {
        "severity": severity,
        "summary": _storable(summary),
        "last_seen_at": now,
    }
    if run is not None:
        seen["last_run"] = run
    for attempt in range(1, _ATTEMPTS + 1):
        if slot.open().update(occurrences=F("occurrences") + 1, **seen):
            incident = slot.open().get()
            incident.job = job
            _tell_if_worse(incident, job, now, run)
            return incident
        new = Incident(job=job, host=host, kind=kind, opened_at=now, first_run=run, **seen)
        told = _decide(new, slot, now)
        try:
            with transaction.atomic():
                new.save(force_insert=True)
        except IntegrityError:
            if attempt == _ATTEMPTS:
                raise
            continue  # somebody else has opened it this very moment
        if new.flapping:
            _quiet_older(new)
        if told is not None:
            _tell(told, new, now, run)
        _after_commit(incident_opened, new, job)
        return new
    raise AssertionError("unreachable")


def resolve(
    job: Job, host: str, kind: str, summary: str, now: datetime, *, run: Run | None = None
) -> Incident | None:
    """End the open incident of a job, host slot and kind; None where none is open.

    To be called in a transaction. Whoever was told of it is told of its end.
    """
    slot = Incident.objects.of_placement(job.pk, host, kind)
    changes: dict[str, Any] = {"last_run": run} if run is not None else {}
    if not slot.open().update(
        resolved_at=now,
        last_seen_at=now,
        resolution=_storable(summary),
        next_review_at=None,
        **changes,
    ):
        return None
    incident = slot.filter(resolved_at=now).order_by("-pk")[0]
    incident.job = job
    if incident.muted:
        pass  # nobody knows of it
    elif incident.flapping:
        Incident.objects.filter(pk=incident.pk).update(next_review_at=now + _calm())
    elif _flips(slot, now)[0] > conf.FLAPPING_FLIPS:
        incident.flapping, incident.next_review_at = True, now + _calm()
        incident.save(update_fields=["flapping", "next_review_at"])
        _tell(NotificationEvent.FLAPPING, incident, now, run)
    else:
        _tell_end(incident, incident, now, run)
    _after_commit(incident_resolved, incident, job)
    return incident


def withdraw(incident: Incident, summary: str, now: datetime) -> None:
    """End an incident because its job is not what it was, whatever became of it."""

    def end() -> None:
        flag = {
            IncidentKind.FAILING.value: {"failing_incident": False},
            IncidentKind.OVERDUE.value: {"overdue_incident": False},
        }.get(incident.kind)
        if flag:
            JobState.objects.filter(job=incident.job_id, host=incident.host).update(**flag)
        resolve(incident.job, incident.host, incident.kind, summary, now)

    run_transaction(end)


def tell_success(job: Job, run: Run, now: datetime) -> None:
    """A mail to each subscriber for a run that succeeded, where the job asks for it."""
    to = [(outbox.MAIL, address) for address in outbox.subscribers(job)]
    outbox.write(NotificationEvent.SUCCEEDED, to, now, job=job, run=run)


def delete_old(before: datetime) -> int:
    """Delete incidents that were over by then, with their notifications; how many.

    And notifications of no incident that are done. What is open, or still to be sent, stays.
    """
    deleted = 0
    waiting = Notification.objects.pending().filter(incident=OuterRef("pk"))
    over = Incident.objects.filter(resolved_at__lt=before).exclude(Exists(waiting))
    done = Notification.objects.filter(incident=None, next_attempt_at=None, created_at__lt=before)
    while keys := list(over.order_by("pk").values_list("pk", flat=True)[:_DELETE_BATCH]):
        Incident.objects.filter(pk__in=keys).delete()
        deleted += len(keys)
    while keys := list(done.order_by("pk").values_list("pk", flat=True)[:_DELETE_BATCH]):
        Notification.objects.filter(pk__in=keys).delete()
    return deleted


# --- what a tick does ---


def open_overdue(now: datetime) -> None:
    """Open an incident for each job that nobody starts, whichever host was to start it."""
    moment = now - timedelta(seconds=conf.OVERDUE_SECONDS)
    states = JobState.objects.overdue(moment, now).select_related("job")
    for state in states.order_by("due_at")[:_BATCH]:
        run_transaction(partial(_open_overdue, state, moment, now))


def _open_overdue(state: JobState, moment: datetime, now: datetime) -> None:
    # Whoever claims it has the same row: either it is not due any more, or the claim sees this.
    mine = JobState.objects.due(moment).filter(pk=state.pk, overdue_incident=False)
    if not mine.update(overdue_incident=True):
        return
    where = state.job.hostname
    who = f"host {where}" if where not in ("", "*") else state.host or "any host"
    due = f"{state.due_at:%Y-%m-%d %H:%M:%S}Z" if state.due_at else "a while ago"
    summary = f"Due at {due}, and not started by {who}."
    open_or_update(state.job, state.host, IncidentKind.OVERDUE, Severity.WARNING, summary, now)


def attend(now: datetime) -> None:
    """Look after open incidents: reminders, windows that have ended, flapping that has."""
    wanting = Incident.objects.needing_review(now).select_related("job")
    for incident in wanting.order_by("next_review_at")[:_BATCH]:
        run_transaction(partial(_attend, incident, now))


def _attend(seen: Incident, now: datetime) -> None:
    # Conditional: of two ticks that look at it, one goes on.
    mine = Incident.objects.filter(pk=seen.pk, next_review_at=seen.next_review_at)
    if not mine.update(next_review_at=None):
        return
    incident = Incident.objects.select_related("job").get(pk=seen.pk)
    if not incident.is_open:
        if incident.flapping and incident.flapping_ended_at is None:
            _calm_down(incident, now)
        return
    ends_at = muted_until(incident.job, now)
    if ends_at is not None:
        incident.next_review_at = min(ends_at, now + _LOOK_AGAIN)
    elif incident.muted:
        incident.muted = False
        _tell_late(incident, now)
    elif incident.flapping:
        incident.flapping, incident.flapping_ended_at = False, now
        _tell_late(incident, now)
    elif incident.acknowledged_at is None and incident.notified_severity:
        incident.next_review_at = _reminder_after(incident.job, now)
        _tell(NotificationEvent.REMINDER, incident, now, number=now.isoformat())
    incident.save(
        update_fields=[
            "next_review_at",
            "muted",
            "flapping",
            "flapping_ended_at",
            "notified_severity",
        ]
    )


def _tell_late(incident: Incident, now: datetime) -> None:
    """The opening, which was held back."""
    incident.notified_severity = incident.severity
    incident.next_review_at = _reminder_after(incident.job, now)
    _tell(NotificationEvent.OPENED, incident, now)


def _calm_down(incident: Incident, now: datetime) -> None:
    """Flapping has ended well: tell those who were told that it had begun."""
    slot = Incident.objects.of_placement(incident.job_id, incident.host, incident.kind)
    slot.filter(flapping=True, flapping_ended_at=None).update(flapping_ended_at=now)
    told = Notification.objects.filter(incident__in=slot, event=NotificationEvent.FLAPPING)
    last = told.select_related("incident").order_by("-pk").first()
    if last is not None and last.incident is not None:
        _tell_end(last.incident, incident, now)


# --- whether and whom to tell ---


def muted_until(job: Job, now: datetime) -> datetime | None:
    """When the last of the windows that mute the job now ends; None where none does."""
    covering = Maintenance.objects.active(now).covering(job.pk)
    end: datetime | None = covering.aggregate(end=Max("ends_at"))["end"]
    return end


def unmute(jobs: Iterable[int] | None, now: datetime) -> None:
    """A window was ended or changed: let the next tick look at what it muted. None: all jobs."""
    muted = Incident.objects.open().filter(next_review_at__isnull=False)
    if jobs is not None:
        muted = muted.filter(job__in=jobs)
    muted.filter(muted=True).update(next_review_at=now)


def _decide(new: Incident, slot: Any, now: datetime) -> NotificationEvent | None:
    """Whether a new incident is muted, or flaps, and what is to be told of it."""
    ends_at = muted_until(new.job, now)
    if ends_at is not None:
        new.muted, new.next_review_at = True, min(ends_at, now + _LOOK_AGAIN)
        return None
    flips, flapping = _flips(slot, now)
    new.notified_severity = new.severity
    if flips + 1 > conf.FLAPPING_FLIPS or flapping:
        new.flapping, new.next_review_at = True, now + _calm()
        return None if flapping else NotificationEvent.FLAPPING
    new.next_review_at = _reminder_after(new.job, now)
    return NotificationEvent.OPENED


def _flips(slot: Any, now: datetime) -> tuple[int, bool]:
    """How often incidents of the slot opened and closed within a day, and whether they flap."""
    since = now - _DAY
    recent = slot.filter(muted=False).filter(Q(opened_at__gt=since) | Q(resolved_at__gt=since))
    rows = list(
        recent.order_by("-pk").values_list(
            "opened_at", "resolved_at", "flapping", "flapping_ended_at"
        )[:_MOST_FLIPS_READ]
    )
    calm = [
        flapping_ended_at for _, _, _, flapping_ended_at in rows if flapping_ended_at is not None
    ]
    since = max([since, *calm])
    moments = [moment for row in rows for moment in row[:2] if moment is not None]
    flapping = bool(rows) and rows[0][2] and rows[0][3] is None
    return sum(moment > since for moment in moments), flapping


def _calm() -> timedelta:
    return timedelta(seconds=conf.FLAPPING_QUIET_SECONDS)


def _quiet_older(incident: Incident) -> None:
    """It flaps again: what flapped before is not calm."""
    slot = Incident.objects.of_placement(incident.job_id, incident.host, incident.kind)
    slot.filter(flapping=True).exclude(pk=incident.pk).update(next_review_at=None)


def _reminder_after(job: Job, now: datetime) -> datetime | None:
    return now + timedelta(hours=job.reminder_hours) if job.reminder_hours else None


def _tell_if_worse(incident: Incident, job: Job, now: datetime, run: Run | None) -> None:
    told = incident.notified_severity
    if not told or Severity(incident.severity).rank <= Severity(told).rank:
        return
    if incident.flapping or muted_until(job, now) is not None:
        return
    incident.notified_severity = incident.severity
    incident.acknowledged_at = incident.acknowledged_by = None  # that was of a lesser evil
    incident.next_review_at = _reminder_after(job, now)
    incident.save(
        update_fields=["notified_severity", "acknowledged_at", "acknowledged_by", "next_review_at"]
    )
    _tell(NotificationEvent.WORSENED, incident, now, run, number=incident.severity)


def _tell(
    event: NotificationEvent,
    incident: Incident,
    now: datetime,
    run: Run | None = None,
    number: str = "",
) -> None:
    to = outbox.addresses(incident.job)
    if event == NotificationEvent.REMINDER:
        waiting = set(incident.notifications.pending().values_list("channel", "recipient"))
        to = [address for address in to if address not in waiting]  # they know nothing yet
    outbox.write(
        event,
        to,
        now,
        job=incident.job,
        incident=incident,
        run=run or incident.last_run,
        number=number,
        facts=_facts(incident),
    )


def _tell_end(told: Incident, ended: Incident, now: datetime, run: Run | None = None) -> None:
    """Tell whoever heard of ``told`` that all is well since ``ended`` has ended."""
    heard = told.notifications.filter(event__in=TELLING, dropped_at=None)
    outbox.write(
        NotificationEvent.RESOLVED,
        list(heard.order_by().values_list("channel", "recipient").distinct()),
        now,
        job=told.job,
        incident=told,
        run=run or ended.last_run,
        facts=_facts(ended),
    )


def _facts(incident: Incident) -> dict[str, Any]:
    """What is true now and may not be when the notification is sent."""
    return {
        "severity": incident.severity,
        "summary": incident.summary,
        "occurrences": incident.occurrences,
        "last_seen_at": incident.last_seen_at.isoformat(),
        "resolution": incident.resolution,
        "resolved_at": incident.resolved_at and incident.resolved_at.isoformat(),
    }


def _storable(text: str) -> str:
    """As every database takes it."""
    return text.replace("\0", "").encode("utf-8", "backslashreplace").decode()[:500]


def _after_commit(signal: Any, incident: Incident, job: Job) -> None:
    transaction.on_commit(lambda: signal.send_robust(sender=Incident, incident=incident, job=job))
