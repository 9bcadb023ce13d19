"""Runs that begin and end as a tick writes them, without the tick's processes."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta

from django.db import transaction

from chroniker.engine.completion import FinishedRun, end_run
from chroniker.enums import RunStatus
from chroniker.models import Job, JobState, Run
from chroniker.processes.supervisor import Outcome

_tokens = itertools.count(1)


def start_run(job: Job, now: datetime, host: str = "") -> JobState:
    """A run of it that goes on."""
    state, _ = JobState.objects.get_or_create(job=job, host=host)
    run = Run.objects.create(job=job, host=host, scheduled_for=now, started_at=now)
    state.lease_token, state.current_run = f"token {next(_tokens)}", run
    state.lease_expires_at = now + timedelta(minutes=1)
    state.last_started_at = now
    state.save(update_fields=["lease_token", "current_run", "lease_expires_at", "last_started_at"])
    return state


def end(state: JobState, now: datetime, status: RunStatus, seconds: float | None = 1.5) -> Run:
    """Its end."""
    assert state.current_run is not None
    assert state.lease_token is not None
    ended = FinishedRun(
        state=state,
        job=state.job,
        run=state.current_run,
        token=state.lease_token,
        outcome=Outcome(status, seconds=seconds, cpu_seconds=seconds and seconds / 2),
        ended_at=now,
        has_downstream=False,
    )
    with transaction.atomic():
        assert end_run(ended)
    return ended.run


def make_finished_run(
    job: Job,
    now: datetime,
    status: RunStatus = RunStatus.SUCCEEDED,
    seconds: float | None = 1.5,
    host: str = "",
) -> Run:
    """A whole run that ends now."""
    return end(start_run(job, now - timedelta(seconds=seconds or 0), host), now, status, seconds)
