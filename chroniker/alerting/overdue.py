"""Incidents of jobs that are due and not started."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial

from chroniker.conf import conf
from chroniker.db.transactions import run_transaction
from chroniker.enums import IncidentKind, Severity
from chroniker.models import JobState

from .incidents import open_or_update

_BATCH = 100
"""The maximum per tick: each costs a few statements, and the tick must renew its leases."""


def open_overdue(now: datetime) -> None:
    """Open an incident for each overdue job, regardless of which host should have started it."""
    due_before = now - timedelta(seconds=conf.OVERDUE_SECONDS)
    states = JobState.objects.overdue(due_before, now).select_related("job")
    for state in states.order_by("due_at")[:_BATCH]:
        run_transaction(partial(_open_if_overdue, state, due_before, now))


def _open_if_overdue(state: JobState, due_before: datetime, now: datetime) -> None:
    # A claim updates the same row: either it is no longer due, or the claim sees this flag.
    mine = JobState.objects.due(due_before).filter(pk=state.pk, overdue_incident=False)
    if not mine.update(overdue_incident=True):
        return
    hostname = state.job.hostname
    who = f"host {hostname}" if hostname not in ("", "*") else state.host or "any host"
    due = f"Due at {state.due_at:%Y-%m-%d %H:%M:%S}Z" if state.due_at else "Due"
    summary = f"{due}, and not started by {who}."
    open_or_update(state.job, state.host, IncidentKind.OVERDUE, Severity.WARNING, summary, now)
