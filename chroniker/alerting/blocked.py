"""Incidents of jobs that cannot start: until a person acts, or until an upstream job recovers.

A job that waits for an upstream job which will run again has no incident: that is what dependencies
are for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from chroniker.conf import conf
from chroniker.db.transactions import run_transaction
from chroniker.enums import BlockedReason, IncidentEnd, IncidentKind
from chroniker.models import Incident, Job, JobDependency, JobState
from chroniker.models.state import JobStateQuerySet

from .incidents import open_or_update, withdraw
from .waiting import UnmetDependency, unmet_dependencies

_LIMIT = 1000
"""The maximum number of jobs that are looked at in one tick."""
_BATCH = 100
"""The maximum that is opened in one tick: each costs a few statements."""


_UNTIL_CHANGED = (BlockedReason.SCHEDULE, BlockedReason.COMMAND)
"""Reasons that end when the definition is changed."""


@dataclass(frozen=True, slots=True)
class Blockage:
    """Why a job does not start and will not by itself."""

    summary: str
    cause: Incident | None
    """The open incident of what it waits for."""


def open_blocked(now: datetime) -> None:
    """Open the incidents of jobs that have been due for long and will not start by themselves."""
    due_before = now - timedelta(seconds=conf.OVERDUE_SECONDS)
    waiting = JobState.objects.due_too_long(due_before).current().unpaused(now, due_before)
    found = list(waiting.blocked(now).select_related("job").order_by("due_at")[:_LIMIT])
    opened = 0
    for state, blockage in find_blockages(found, now):
        if blockage is not None and opened < _BATCH:
            run_transaction(partial(_open, state, blockage, due_before, now))
            opened += 1


def open_unusable(job: Job, placements: Iterable[str], problem: str, now: datetime) -> None:
    """Open the incidents of a job whose schedule cannot be used. Call it in a transaction."""
    for host in placements:
        if JobState.objects.filter(job=job, host=host).update(overdue_incident=True):
            summary = f"The schedule cannot be used: {problem}"
            open_or_update(job, host, IncidentKind.BLOCKED, job.alert_severity, summary, now)


def open_stuck(state: JobState, detail: str, now: datetime) -> None:
    """Open the incident of a state that was taken out of the queue. Call it in a transaction."""
    JobState.objects.filter(pk=state.pk).update(overdue_incident=True)
    summary = f"It cannot be started: {detail}"
    open_or_update(
        state.job, state.host, IncidentKind.BLOCKED, state.job.alert_severity, summary, now
    )


def recheck(incident: Incident, now: datetime) -> bool:
    """Check an open incident again; False if it was closed.

    Otherwise the incident, which is not saved, has the current summary and cause. Call it in a
    transaction that has written the incident.
    """
    state = _still_blocked(incident, now)
    if state is not None and state.blocked_reason in _UNTIL_CHANGED:
        return True
    for _, blockage in find_blockages([state] if state else [], now):
        if blockage is not None:
            incident.summary = blockage.summary[:500]
            # Only an opening is folded: what was announced stays so, and its end is reported.
            incident.cause = None if incident.notified_severity else blockage.cause
            return True
    withdraw(incident, IncidentEnd.RECOVERED, "The job no longer waits.", now)
    return False


def _still_blocked(incident: Incident, now: datetime) -> JobState | None:
    states = JobState.objects.filter(job=incident.job_id, host=incident.host)
    unusable = states.filter(blocked_reason__in=_UNTIL_CHANGED)
    waiting = states.due(now).current().blocked(now)
    return unusable.select_related("job").first() or waiting.select_related("job").first()


def find_blockages(
    states: Iterable[JobState], now: datetime
) -> Iterable[tuple[JobState, Blockage | None]]:
    """Each state, and why it will not start by itself; None if it only waits for its turn."""
    found = list(unmet_dependencies(states, now))
    upstreams = {unmet.upstream.job_id for _, group in found for unmet in group}
    causes: dict[tuple[int | None, str], Incident] = {}
    open_causes = Incident.objects.open().filter(job__in=upstreams).select_related("cause")
    for incident in open_causes.order_by("-pk"):
        causes[incident.job_id, incident.host] = incident  # the oldest one
    with_upstreams = set(
        JobDependency.objects.filter(downstream__in=upstreams).values_list("downstream", flat=True)
    )
    for state, group in found:
        yield state, _blockage(group, causes, with_upstreams)


def _blockage(
    group: list[UnmetDependency],
    causes: dict[tuple[int | None, str], Incident],
    with_upstreams: set[int],
) -> Blockage | None:
    folded: Blockage | None = None
    for unmet in group:
        upstream, job = unmet.upstream, unmet.dependency.upstream
        if upstream.lease_token is not None:
            continue  # it is running
        if not job.enabled and upstream.run_requested_at is None:
            return Blockage(f"It waits for {job.name}, which is disabled.", None)
        cause = causes.get((job.pk, upstream.host))
        if cause is not None:
            summary = f"It waits for {job.name}: {unmet.reason}."
            folded = Blockage(summary, _root(cause))
        elif upstream.due_at is None and not job.schedule and job.pk not in with_upstreams:
            return Blockage(f"It waits for {job.name}, which has no schedule.", None)
        elif upstream.due_at is None and job.schedule:
            return Blockage(f"It waits for {job.name}, which has no next run.", None)
    return folded


def _root(incident: Incident) -> Incident | None:
    """The incident that people were notified of; None if a maintenance window mutes it."""
    cause = incident.cause
    root = cause if cause is not None and cause.is_open else incident
    return None if root.muted else root


def _open(state: JobState, blockage: Blockage, due_before: datetime, now: datetime) -> None:
    if JobState.objects.lock([state.pk]):
        return  # another transaction has locked it; a later tick looks again
    mine: JobStateQuerySet = JobState.objects.due(due_before)
    # A claim updates the same row: either it is no longer due, or the claim sees this flag.
    if not mine.filter(pk=state.pk, overdue_incident=False).update(overdue_incident=True):
        return
    open_or_update(
        state.job, state.host, IncidentKind.BLOCKED, state.job.alert_severity, blockage.summary,
        now, cause=blockage.cause,
    )  # fmt: skip
