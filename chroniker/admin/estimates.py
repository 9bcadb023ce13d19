"""When a running run is expected to end."""

from __future__ import annotations

from datetime import datetime, timedelta

from chroniker.models import Job, JobState

_LEAST_SHARE = 0.01
"""Below one percent, progress says nothing about the end."""


def estimated_end(job: Job, state: JobState) -> datetime | None:
    """From its progress, else from the duration of the last run; None if neither is known.

    It depends only on what is stored, so it changes when there is progress, and not with each look.
    """
    started = state.last_started_at
    if state.lease_token is None or started is None:
        return None
    if state.parts_total and state.parts_done and state.progress_at:
        share = state.parts_done / state.parts_total
        if _LEAST_SHARE <= share <= 1 and state.progress_at > started:
            return started + (state.progress_at - started) / share
    usual = state.last_duration_seconds or job.expected_seconds
    return started + timedelta(seconds=usual) if usual else None
