"""The states and the last runs of a job, shown with its form."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from chroniker.models import Job, JobState, Run

from . import formats
from .display_state import describe_job, next_run_at
from .job_columns import total_progress

RUNS_SHOWN = 10


def state_rows(job: Job, states: Sequence[JobState], now: datetime) -> list[dict[str, object]]:
    """The states as the template shows them."""
    return [_state_row(job, state, now) for state in states]


def run_rows(job: Job) -> list[dict[str, object]]:
    """The last runs as the template shows them, the newest first."""
    runs = Run.objects.filter(job=job).order_by("-id").defer("error")[:RUNS_SHOWN]
    return [
        {
            "run": run,
            "status": formats.run_status(run.status),
            "started": formats.time_html(run.started_at),
            "duration": formats.duration(run.duration_seconds),
        }
        for run in runs
    ]


def _state_row(job: Job, state: JobState, now: datetime) -> dict[str, object]:
    shown = describe_job(job, [state], now)
    return {
        "state": state,
        "badge": formats.badge(shown.name, shown.label),
        "detail": shown.detail,
        "progress": total_progress([state]) or formats.EMPTY,
        "next": formats.time_html(next_run_at([state]) if job.enabled else None, job.timezone),
        "last_status": formats.run_status(state.last_status),
        "last_ended": formats.time_html(state.last_ended_at, job.timezone),
        "last_duration": formats.duration(state.last_duration_seconds),
    }
