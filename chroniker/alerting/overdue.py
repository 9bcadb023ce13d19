"""Incidents of jobs that are due and not started."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial

from django.db.models import Q

from chroniker.conf import conf
from chroniker.db.transactions import run_transaction
from chroniker.enums import BlockedReason, IncidentKind
from chroniker.models import JobState

from .incidents import open_or_update
from .text import local_text

_BATCH = 100
"""The maximum per tick: each costs a few statements, and the tick must renew its leases."""


def open_overdue(now: datetime, folded: Q | None = None) -> None:
    """Open an incident for each overdue job, regardless of which host should have started it.

    Except for states in ``folded``, whose incidents are folded into another one.
    """
    due_before = now - timedelta(seconds=conf.OVERDUE_SECONDS)
    states = JobState.objects.overdue(due_before, now).select_related("job")
    if folded is not None:
        states = states.exclude(folded)
    for state in states.order_by("due_at")[:_BATCH]:
        run_transaction(partial(_open_if_overdue, state, due_before, now))


def _open_if_overdue(state: JobState, due_before: datetime, now: datetime) -> None:
    if JobState.objects.lock([state.pk]):
        return  # another transaction has locked it; a later tick looks again
    # A claim updates the same row: either it is no longer due, or the claim sees this flag.
    mine = JobState.objects.due(due_before).filter(pk=state.pk, overdue_incident=False)
    if not mine.update(overdue_incident=True):
        return
    job = state.job
    summary = overdue_summary(state)
    open_or_update(job, state.host, IncidentKind.OVERDUE, job.alert_severity, summary, now)


def open_waiting(state: JobState, queue: str, now: datetime) -> None:
    """Open the incident of a run that no worker has taken for long. Call it in a transaction."""
    detail = f"The workers of the queue {queue} have not taken its run."
    waiting = JobState.objects.queued().filter(pk=state.pk, lease_token=state.lease_token)
    if not waiting.update(blocked_reason=BlockedReason.QUEUE, blocked_detail=detail):
        return
    if waiting.filter(overdue_incident=False).update(overdue_incident=True):
        job = state.job
        open_or_update(job, state.host, IncidentKind.OVERDUE, job.alert_severity, detail, now)


def overdue_summary(state: JobState) -> str:
    """Since when it is due, in the job's time zone, and why it does not start."""
    hostname = state.job.hostname
    who = f"host {hostname}" if hostname not in ("", "*") else state.host or "any host"
    due = f"Due at {local_text(state.due_at, state.job.timezone)}" if state.due_at else "Due"
    why = f": {state.blocked_detail}" if state.blocked_detail else "."
    return f"{due}, and not started by {who}{why}"
