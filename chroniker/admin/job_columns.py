"""The columns of the list of jobs. They use the states that the list prefetches, no queries."""

from __future__ import annotations

from collections.abc import Iterable

from django.contrib import admin
from django.utils.html import format_html
from django.utils.timezone import now as utc_now
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from chroniker.models import Job, JobState

from . import formats
from .display_state import current_states, describe_job, describe_schedule, next_run_at


@admin.display(description=gettext_lazy("job"), ordering="name")
def title(job: Job) -> str:
    """The name, and the command without its arguments."""
    return format_html("{}<br><small>{}</small>", job.name, job.command or _("raw command"))


@admin.display(description=gettext_lazy("state"))
def state(job: Job) -> str:
    """What the job is doing and its progress, or why it does not run."""
    states = current_states(job)
    shown = describe_job(job, states, utc_now())
    return formats.render(
        "state.html",
        {
            "badge": formats.badge(shown.name, shown.label),
            "detail": shown.detail,
            "progress": total_progress(states),
            "muted": getattr(job, "is_muted", False),
        },
    )


@admin.display(description=gettext_lazy("next run"), ordering="soonest")
def next_run(job: Job) -> str:
    """The next run or retry, in the job's time zone."""
    if not job.enabled:
        return formats.EMPTY
    return formats.time_html(next_run_at(current_states(job)), job.timezone)


@admin.display(description=gettext_lazy("schedule"), ordering="schedule")
def schedule(job: Job) -> str:
    """The schedule as a sentence and as entered, or why it is invalid."""
    return formats.render("schedule.html", {"description": describe_schedule(job), "job": job})


def total_progress(states: Iterable[JobState]) -> str:
    """The progress of all active runs together; empty if none reported progress."""
    reported = [s for s in states if s.lease_token is not None and s.parts_done is not None]
    if not reported:
        return ""
    return formats.progress(
        sum(state.parts_done or 0 for state in reported),
        sum(state.parts_total or 0 for state in reported),
    )
