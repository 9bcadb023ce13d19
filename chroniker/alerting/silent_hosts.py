"""Incidents of hosts that do not tick while jobs that only they may run are due.

The incidents of those jobs are folded into that of the host, so that a dead machine is one message.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from functools import partial

from django.db.models import F, Q

from chroniker.conf import conf
from chroniker.db.transactions import run_transaction
from chroniker.enums import IncidentKind, NotificationEvent, Severity
from chroniker.models import Host, Incident, Job, JobState
from chroniker.models.job import site_timezone
from chroniker.models.state import JobStateQuerySet

from .incidents import open_or_update, resolve
from .maintenance import next_muted_review
from .notifications import notify
from .text import local_text, storable

_LIMIT = 2000
"""The maximum number of jobs that are folded in one tick."""


def open_silent_hosts(now: datetime) -> None:
    """Open an incident for each silent host that overdue jobs wait for, and fold theirs into it."""
    due_before = now - timedelta(seconds=conf.OVERDUE_SECONDS)
    overdue = list(bound_states(due_before, now).order_by("due_at")[:_LIMIT])
    by_host: dict[str, list[JobState]] = {}
    for state in overdue:
        by_host.setdefault(host_of(state), []).append(state)
    silent = Host.objects.active().filter(name__in=by_host, last_tick_at__lt=due_before)
    for host in silent:
        run_transaction(partial(_fold, host, by_host[host.name], due_before, now))


def bound_states(due_before: datetime, now: datetime) -> JobStateQuerySet:
    """Overdue states that one host only may run."""
    return (
        JobState.objects.overdue(due_before, now)
        .filter(~Q(job__hostname="") & (~Q(job__hostname="*") | ~Q(host="")))
        .select_related("job")
    )


def host_of(state: JobState) -> str:
    """The only host that may run the job of this state; empty if any may."""
    return state.host or ("" if state.job.every_host else state.job.hostname)


def host_incident(state: JobState) -> Incident | None:
    """The open incident of the only host that may run the job of this state."""
    name = host_of(state)
    return Incident.objects.filter(open_host=name).first() if name else None


def end_silence(host: str, now: datetime) -> None:
    """End the incident of a host that ticks again."""
    run_transaction(lambda: resolve(None, host, IncidentKind.HOST, "It ticks again.", now))


def _fold(host: Host, states: list[JobState], due_before: datetime, now: datetime) -> None:
    Host.objects.filter(pk=host.pk).update(claims=F("claims"))  # write first
    known = Incident.objects.filter(open_host=host.name).first()
    severities = [state.job.alert_severity for state in states]
    worst = max(severities + ([known.severity] if known else []), key=lambda s: Severity(s).rank)
    assert host.last_tick_at is not None
    summary = f"It last ticked at {local_text(host.last_tick_at, site_timezone())}."
    cause = open_or_update(None, host.name, IncidentKind.HOST, worst, summary, now)
    taken = _take(states, due_before)
    jobs = {state.job_id for state in states}
    muted = set(Job.objects.muted(now).filter(pk__in=jobs).values_list("pk", flat=True))
    Incident.objects.bulk_create(
        (
            _folded_incident(state, cause, now, muted=state.job_id in muted)
            for state in states
            if state.pk in taken
        ),
        ignore_conflicts=True,
    )
    if not cause.muted and not cause.flapping:
        # Again, now for the subscribers of these jobs as well. Nobody is notified twice.
        notify(NotificationEvent.OPENED, cause, now)


def _take(states: Collection[JobState], due_before: datetime) -> set[int]:
    """Flag those that are still due, and that no other transaction has locked."""
    keys = [state.pk for state in states]
    free = set(keys) - JobState.objects.lock(keys)
    mine = JobState.objects.due(due_before).filter(pk__in=free, overdue_incident=False)
    taken = set(mine.values_list("pk", flat=True))
    JobState.objects.due(due_before).filter(pk__in=taken).update(overdue_incident=True)
    return taken


def _folded_incident(state: JobState, cause: Incident, now: datetime, *, muted: bool) -> Incident:
    return Incident(
        job=state.job,
        job_name=state.job.name,
        team=state.job.team,
        host=state.host,
        kind=IncidentKind.OVERDUE,
        severity=state.job.alert_severity,
        summary=storable(f"Not started by host {cause.host}, which does not tick."),
        opened_at=now,
        last_seen_at=now,
        cause=None if muted else cause,
        muted=muted,
        next_review_at=next_muted_review(now, now) if muted else None,
    )
