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
from chroniker.enums import IncidentKind, Severity
from chroniker.models import Host, Incident, Job, JobState
from chroniker.models.job import site_timezone
from chroniker.models.state import JobStateQuerySet
from chroniker.signals import incident_opened

from .incidents import notify_again, open_or_update, resolve, send_after_commit
from .maintenance import next_muted_review
from .text import local_text, storable

_LIMIT = 2000
"""The maximum number of jobs of a host that are folded in one tick."""


def open_silent_hosts(now: datetime) -> list[str]:
    """Open an incident for each silent host that overdue jobs wait for, and fold theirs into it.

    Returns the names of these hosts. If more than ``_LIMIT`` jobs wait for one of them, later ticks
    fold the rest.
    """
    due_before = now - timedelta(seconds=conf.OVERDUE_SECONDS)
    placements = bound_states(due_before, now).order_by().values_list("host", "job__hostname")
    waited_for = {host or hostname for host, hostname in placements.distinct()}
    silent = list(Host.objects.active().filter(name__in=waited_for, last_tick_at__lt=due_before))
    for host in silent:
        # The database compares the names: in MariaDB, WEB3 is web3.
        bound = bound_states(due_before, now).filter(bound_to([host.name]))
        states = list(bound.order_by("due_at")[:_LIMIT])
        run_transaction(partial(_fold, host, states, due_before, now))
    return [host.name for host in silent]


def bound_to(hosts: Collection[str]) -> Q:
    """States that one of these hosts only may run."""
    return Q(host__in=hosts) | Q(host="", job__hostname__in=hosts)


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


def find_cause(state: JobState, now: datetime) -> Incident | None:
    """The open incident of the only host that may run the job; None if that host ticks.

    Opens it if a maintenance window has kept it from being opened.
    """
    name = host_of(state)
    if not name:
        return None
    known = Incident.objects.filter(open_host=name).first()
    if known is not None:
        return known
    due_before = now - timedelta(seconds=conf.OVERDUE_SECONDS)
    host = Host.objects.active().filter(name=name, last_tick_at__lt=due_before).first()
    return _open(host, state.job.alert_severity, now) if host else None


def end_silence(host: str, now: datetime) -> None:
    """End the incident of a host that ticks again."""
    run_transaction(lambda: resolve(None, host, IncidentKind.HOST, "It ticks again.", now))


def _fold(host: Host, states: list[JobState], due_before: datetime, now: datetime) -> None:
    # A write, so that the host's next tick waits and then ends this incident.
    still_silent = Host.objects.active().filter(pk=host.pk, last_tick_at__lt=due_before)
    if not still_silent.update(claims=F("claims")):
        return
    taken = _take(states, due_before)
    states = [state for state in states if state.pk in taken]
    jobs = {state.job_id for state in states}
    muted = set(Job.objects.muted(now).filter(pk__in=jobs).values_list("pk", flat=True))
    severities = [state.job.alert_severity for state in states if state.job_id not in muted]
    cause = _open(host, max(severities, key=_rank), now) if severities else None
    Incident.objects.bulk_create(
        (
            _folded_incident(state, host, None if state.job_id in muted else cause, now)
            for state in states
        ),
        ignore_conflicts=True,
    )
    opened = Incident.objects.open().filter(kind=IncidentKind.OVERDUE, opened_at=now, job__in=jobs)
    for incident in opened.select_related("job"):
        send_after_commit(incident_opened, incident)
    if cause is not None:
        notify_again(cause, now)  # now for the subscribers of these jobs as well


def _open(host: Host, severity: str, now: datetime) -> Incident:
    """Open the incident of a silent host, or make the open one at least as severe."""
    known = Incident.objects.filter(open_host=host.name).first()
    worst = max([severity] + ([known.severity] if known else []), key=_rank)
    assert host.last_tick_at is not None
    summary = f"It last ticked at {local_text(host.last_tick_at, site_timezone())}."
    return open_or_update(None, host.name, IncidentKind.HOST, worst, summary, now)


def _rank(severity: str) -> int:
    return Severity(severity).rank


def _take(states: Collection[JobState], due_before: datetime) -> set[int]:
    """Flag those that are still due, and that no other transaction has locked."""
    keys = [state.pk for state in states]
    free = set(keys) - JobState.objects.lock(keys)
    mine = JobState.objects.due(due_before).filter(pk__in=free, overdue_incident=False)
    taken = set(mine.values_list("pk", flat=True))
    JobState.objects.due(due_before).filter(pk__in=taken).update(overdue_incident=True)
    return taken


def _folded_incident(
    state: JobState, host: Host, cause: Incident | None, now: datetime
) -> Incident:
    """The incident of a job that waits for a host; muted if it has no cause."""
    return Incident(
        job=state.job,
        job_name=state.job.name,
        team=state.job.team,
        host=state.host,
        kind=IncidentKind.OVERDUE,
        severity=state.job.alert_severity,
        summary=storable(f"Not started by host {host.name}, which does not tick."),
        opened_at=now,
        last_seen_at=now,
        cause=cause,
        muted=cause is None,
        next_review_at=next_muted_review(now, now) if cause is None else None,
    )
