"""Where a job stands, in a word and the reason; from rows that were read already, no queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext as _

from chroniker.exceptions import ScheduleError
from chroniker.models import Job, JobState


@dataclass(frozen=True, slots=True)
class Standing:
    """``word`` is for style sheets and tests, ``label`` and ``detail`` for people."""

    word: str
    label: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """A schedule as a sentence, or the reason why it cannot be read."""

    sentence: str
    error: str = ""


def read_schedule(job: Job) -> Reading:
    """The schedule of a row that may have been inserted behind the model's back."""
    try:
        return Reading(job.parsed_schedule().explain())
    except ScheduleError as error:
        return Reading("", str(error))


def slots(job: Job, states: Sequence[JobState]) -> list[JobState]:
    """The states of the host slots that the definition of today has.

    A job that once ran on every host and now runs on any keeps the rows, with their counters, of
    both; what still runs is shown in either case.
    """
    return [s for s in states if bool(s.host) == job.every_host or s.lease_token is not None]


def next_run_at(states: Sequence[JobState]) -> datetime | None:
    """The earliest next run or retry."""
    times = [time for s in states for time in (s.next_run_at, s.retry_at) if time is not None]
    return min(times, default=None)


def last_ended(states: Sequence[JobState]) -> JobState | None:
    """The one whose run ended last."""
    ended = [state for state in states if state.last_status]
    return max(ended, key=_ended_seconds, default=None)


def _ended_seconds(state: JobState) -> float:
    return state.last_ended_at.timestamp() if state.last_ended_at else 0.0


def standing(job: Job, states: Sequence[JobState], now: datetime) -> Standing:
    """What the job does now, or why it does nothing."""
    running = [state for state in states if state.lease_token is not None]
    if running:
        return _running(running)
    if any(state.run_requested_at for state in states):
        return Standing("due", _("due"), _("A run was asked for; the next tick starts it."))
    if not job.enabled:
        return Standing("disabled", _("disabled"))
    if read_schedule(job).error:
        return Standing("broken", _("broken schedule"))
    blocked = [state for state in states if state.blocked_reason]
    if blocked:
        return Standing("blocked", _("blocked"), _by_host(blocked, "blocked_reason"))
    if any(state.due_at and state.due_at <= now for state in states):
        return Standing("due", _("due"))
    if any(state.retry_at for state in states):
        return Standing("scheduled", _("waits for its retry"))
    if job.needs_planning and job.schedule:
        return Standing("scheduled", _("scheduled"), _("The next tick computes when."))
    if next_run_at(states) is not None:
        return Standing("scheduled", _("scheduled"))
    if job.schedule:
        return Standing("idle", _("no run to come"))
    return Standing("idle", _("on request"))


def _running(states: Sequence[JobState]) -> Standing:
    hosts = ", ".join(sorted(state.lease_host for state in states if state.lease_host))
    detail = _("on %(hosts)s") % {"hosts": hosts} if hosts else ""
    if any(state.stop_requested_at for state in states):
        return Standing("running", _("stopping"), detail)
    return Standing("running", _("running"), detail)


def _by_host(states: Sequence[JobState], field: str) -> str:
    return "; ".join(
        f"{s.host}: {getattr(s, field)}" if s.host else str(getattr(s, field)) for s in states
    )
