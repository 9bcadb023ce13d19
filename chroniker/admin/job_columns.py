"""The columns of the list of jobs. They use the rows that the list prepares, no queries."""

from __future__ import annotations

from functools import lru_cache

from django.contrib import admin
from django.db.models import F, OuterRef, Subquery
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import get_language, gettext_lazy
from django.utils.translation import gettext as _

from chroniker.models import Job, JobState

from .display_state import describe_text, hashed_name
from .job_rows import row_of


def soonest_run() -> Subquery:
    """What the list sorts by: the earliest next run on any host."""
    states = JobState.objects.filter(job=OuterRef("pk"))
    return Subquery(
        states.order_by(F("next_run_at").asc(nulls_last=True)).values("next_run_at")[:1]
    )


def last_started() -> Subquery:
    """What the list sorts by: when a run on any host last started."""
    states = JobState.objects.filter(job=OuterRef("pk"))
    latest = states.order_by(F("last_started_at").desc(nulls_last=True))
    return Subquery(latest.values("last_started_at")[:1])


@admin.display(description=gettext_lazy("job"), ordering="name")
def title(job: Job) -> str:
    """The name, the command or task without its arguments, and the team."""
    team = getattr(job, "team", "")
    return format_html(
        "{}<br><small>{}{}</small>",
        job.name,
        job.work_name or _("raw command"),
        f" · {team}" if team else "",
    )


@admin.display(description=gettext_lazy("state"))
def state(job: Job) -> str:
    """What the job is doing and its progress, or why it does not run."""
    return format_html(
        '<div data-live-row="{0}" data-live="job-{0}-state">{1}</div>',
        job.pk,
        row_of(job).state_html(),
    )


@admin.display(description=gettext_lazy("next run"), ordering=soonest_run())
def next_run(job: Job) -> str:
    """The next run or retry, in the job's time zone."""
    return _part(job, "next", row_of(job).next_run_html())


@admin.display(description=gettext_lazy("next run and schedule"), ordering=soonest_run())
def next_run_and_schedule(job: Job) -> str:
    """The next run, and the schedule as a sentence and as entered, or why it is invalid."""
    key = hashed_name(job)
    return format_html(
        "{}{}", next_run(job), _schedule(job.schedule, job.timezone, key, get_language())
    )


@lru_cache(maxsize=4096)
def _schedule(schedule: str, timezone: str, name: str, language: str | None) -> SafeString:
    description = describe_text(schedule, timezone, name)
    if description.error:
        text = format_html(
            '<span class="chroniker-error">{} {}</span>',
            _("Invalid schedule:"),
            description.error,
        )
    else:
        text = format_html("<small>{}</small>", description.sentence)
    entered = format_html(" <small><code>{}</code></small>", schedule) if schedule else ""
    return format_html("{}{}", text, entered)


def _part(job: Job, name: str, html: SafeString | str) -> SafeString:
    return format_html('<div data-live="job-{}-{}">{}</div>', job.pk, name, html)
