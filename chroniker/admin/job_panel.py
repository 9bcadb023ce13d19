"""The states and the last runs of a job, shown with its form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from chroniker.models import Job, JobState, Run

from . import formats
from .display_state import describe_job, next_run_at
from .estimates import estimated_end
from .job_rows import total_progress
from .site_status import SiteStatus

RUNS_SHOWN = 10


def state_rows(
    job: Job, states: Sequence[JobState], now: datetime, site: SiteStatus | None = None
) -> list[dict[str, object]]:
    """The states as the template shows them."""
    return [_state_row(job, state, now, site) for state in states]


def last_runs(job: Job) -> list[Run]:
    """The last runs, the newest first."""
    return list(Run.objects.filter(job=job).order_by("-id").defer("error")[:RUNS_SHOWN])


def run_rows(runs: Iterable[Run]) -> list[dict[str, object]]:
    """Runs as the template shows them."""
    return [
        {
            "run": run,
            "status": formats.run_status(run.status),
            "started": formats.time_html(run.started_at),
            "duration": formats.duration(run.duration_seconds),
        }
        for run in runs
    ]


def _state_row(
    job: Job, state: JobState, now: datetime, site: SiteStatus | None
) -> dict[str, object]:
    shown = describe_job(job, [state], now, site)
    end = estimated_end(job, state)
    return {
        "state": state,
        "badge": formats.badge(shown.name, shown.label),
        "detail": shown.detail,
        "progress": total_progress([state]) or formats.EMPTY,
        "end": formats.relative_time(end) if end else "",
        "next": formats.time_html(next_run_at([state]) if job.enabled else None, job.timezone),
        "last_status": formats.run_status(state.last_status),
        "last_ended": formats.time_html(state.last_ended_at, job.timezone),
        "last_duration": formats.duration(state.last_duration_seconds),
    }
