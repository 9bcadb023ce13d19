"""What a job is doing, as a label and a detail. Uses loaded rows only, no queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext as _

from chroniker.exceptions import ScheduleError
from chroniker.models import Job, JobState


@dataclass(frozen=True, slots=True)
class DisplayState:
    """``name`` is the CSS name of the badge; ``label`` and ``detail`` are for people."""

    name: str
    label: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ScheduleDescription:
    """A schedule as a sentence, or the reason why it is invalid."""

    sentence: str
    error: str = ""


def describe_schedule(job: Job) -> ScheduleDescription:
    """Describe the schedule of a row that may have been written without validation."""
    try:
        return ScheduleDescription(job.parsed_schedule().explain())
    except ScheduleError as error:
        return ScheduleDescription("", str(error))


def current_states(job: Job) -> list[JobState]:
    """The states on the placements of the job's current definition, and those that run.

    Those of retired hosts are not among them.

    A job that was changed from every host to any host keeps the rows of both, with their
    counters. Prefetch ``states`` to avoid a query.
    """
    return [
        state
        for state in job.states.all()
        if (bool(state.host) == job.every_host and not state.host_retired)
        or state.lease_token is not None
    ]


def next_run_at(states: Sequence[JobState]) -> datetime | None:
    """The earliest next run or retry."""
    times = [time for s in states for time in (s.next_run_at, s.retry_at) if time is not None]
    return min(times, default=None)


def last_ended(states: Sequence[JobState]) -> JobState | None:
    """The state whose run ended last."""
    ended = [state for state in states if state.last_status]
    return max(ended, key=_ended_seconds, default=None)


def _ended_seconds(state: JobState) -> float:
    return state.last_ended_at.timestamp() if state.last_ended_at else 0.0


def describe_job(job: Job, states: Sequence[JobState], now: datetime) -> DisplayState:
    """What the job is doing at ``now``, or why it does not run."""
    running = [state for state in states if state.lease_token is not None]
    if running:
        return _describe_running(running)
    if any(state.run_requested_at for state in states):
        return DisplayState("due", _("due"), _("A run is requested. It starts with the next tick."))
    if any(state.restart_at for state in states):
        detail = _("A shutdown interrupted its run. It starts again with the next tick.")
        return DisplayState("due", _("due"), detail)
    if not job.enabled:
        return DisplayState("disabled", _("disabled"))
    if describe_schedule(job).error:
        return DisplayState("invalid", _("invalid schedule"))
    blocked = [state for state in states if state.blocked_reason]
    if blocked:
        return DisplayState("blocked", _("blocked"), "; ".join(map(_blocked_text, blocked)))
    if any(state.due_at and state.due_at <= now for state in states):
        return DisplayState("due", _("due"))
    if any(state.retry_at for state in states):
        return DisplayState("scheduled", _("waiting for retry"))
    if job.needs_planning and job.schedule:
        return DisplayState("scheduled", _("scheduled"), _("The next tick plans the next run."))
    if next_run_at(states) is not None:
        return DisplayState("scheduled", _("scheduled"))
    if job.schedule:
        return DisplayState("idle", _("no further runs"))
    return DisplayState("idle", _("manual"))


def _describe_running(states: Sequence[JobState]) -> DisplayState:
    hosts = ", ".join(sorted(state.lease_host for state in states if state.lease_host))
    detail = _("on %(hosts)s") % {"hosts": hosts} if hosts else ""
    if any(state.stop_requested_at for state in states):
        return DisplayState("running", _("stopping"), detail)
    return DisplayState("running", _("running"), detail)


def _blocked_text(state: JobState) -> str:
    text = state.blocked_detail or state.get_blocked_reason_display()
    return f"{state.host}: {text}" if state.host else text
