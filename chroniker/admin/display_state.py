"""What a job is doing, as a label and a detail, the worst fact first. No queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from chroniker.conf import conf
from chroniker.exceptions import ScheduleError
from chroniker.models import Job, JobState
from chroniker.schedules import parse

from .site_status import SiteStatus


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
    return describe_text(job.schedule, job.timezone, hashed_name(job))


def hashed_name(job: Job) -> str:
    """The name of the job if its schedule depends on it: H is a hash of the name."""
    return job.name if "H" in job.schedule.upper() else ""


@lru_cache(maxsize=4096)
def describe_text(schedule: str, timezone: str, name: str) -> ScheduleDescription:
    """Describe a schedule. Cached: making a sentence takes a millisecond."""
    try:
        return ScheduleDescription(parse(schedule, zone=timezone, name=name).explain())
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


def describe_job(
    job: Job, states: Sequence[JobState], now: datetime, site: SiteStatus | None = None
) -> DisplayState:
    """What the job is doing at ``now``, or why it does not run.

    A failing job is shown as failing, whatever else it does. With ``site``, the detail says
    whether any host could start the job.
    """
    activity = _describe_activity(job, states, now, site)
    failures = max((state.consecutive_failures for state in states), default=0)
    if not failures or activity.name in ("disabled", "invalid"):
        return activity
    text = ngettext("%d failure", "%d consecutive failures", failures) % failures
    plain = activity.name in ("scheduled", "idle") and not activity.detail
    also = [] if plain else [_joined(activity)]
    return DisplayState("failing", _("failing"), "; ".join([text, *also]))


def _joined(state: DisplayState) -> str:
    return f"{state.label}: {state.detail}" if state.detail else state.label


def _describe_activity(
    job: Job, states: Sequence[JobState], now: datetime, site: SiteStatus | None
) -> DisplayState:
    running = [state for state in states if state.lease_token is not None]
    if running:
        return _describe_running(running)
    absent = _host_problem(job, site)
    if any(state.run_requested_at for state in states):
        detail = absent or _("A run is requested. It starts with the next tick.")
        return DisplayState("due", _("due"), detail)
    if any(state.restart_at for state in states):
        detail = absent or _("A shutdown interrupted its run. It starts again with the next tick.")
        return DisplayState("due", _("due"), detail)
    if not job.enabled:
        return DisplayState("disabled", _("disabled"))
    if describe_schedule(job).error:
        return DisplayState("invalid", _("invalid schedule"))
    blocked = [state for state in states if state.blocked_reason]
    if blocked:
        return DisplayState("blocked", _("blocked"), "; ".join(map(_blocked_text, blocked)))
    due = [state.due_at for state in states if state.due_at and state.due_at <= now]
    if due:
        if min(due) < now - timedelta(seconds=conf.OVERDUE_SECONDS):
            return DisplayState("late", _("late"), absent or _("It is due and has not started."))
        return DisplayState("blocked" if absent else "due", _("due"), absent)
    if any(state.retry_at for state in states):
        return DisplayState("retry", _("waiting for retry"), absent)
    if job.needs_planning and job.schedule:
        detail = absent or _("The next tick plans the next run.")
        return DisplayState("scheduled", _("scheduled"), detail)
    if next_run_at(states) is not None:
        return DisplayState("scheduled", _("scheduled"), absent)
    if job.schedule:
        return DisplayState("idle", _("no further runs"))
    return DisplayState("idle", _("manual"), absent)


def _host_problem(job: Job, site: SiteStatus | None) -> str:
    """Why no host would start the job now; empty if one would."""
    if site is None:
        return ""
    if job.hostname and not job.every_host:
        pinned = [host for host in site.hosts if host.name == job.hostname]
        if not pinned or pinned[0].last_tick_at is None:
            return host_never_ticked(job.hostname)
        if not pinned[0].ticks(site.now):
            return _("Host %(host)s does not tick.") % {"host": job.hostname}
        if pinned[0].paused:
            return _("Host %(host)s is paused.") % {"host": job.hostname}
        return ""
    if not site.ticking:
        return _("No host ticks.")
    return "" if site.starting else _("Every host that ticks is paused.")


def host_never_ticked(host: str) -> str:
    """What to check if a job is pinned to a host that is not known."""
    return _("Host %(host)s has never ticked. Check its name, or start Chroniker there.") % {
        "host": host
    }


def _describe_running(states: Sequence[JobState]) -> DisplayState:
    hosts = ", ".join(sorted(state.lease_host for state in states if state.lease_host))
    detail = _("on %(hosts)s") % {"hosts": hosts} if hosts else ""
    if any(state.stop_requested_at for state in states):
        return DisplayState("running", _("stopping"), detail)
    queued = [state for state in states if state.is_queued]
    if queued:
        waits = _("It waits for a worker.")
        return DisplayState("due", _("queued"), queued[0].blocked_detail or waits)
    return DisplayState("running", _("running"), detail)


def _blocked_text(state: JobState) -> str:
    text = state.blocked_detail or state.get_blocked_reason_display()
    return f"{state.host}: {text}" if state.host else text
