"""The actions on the list of jobs, with their messages."""

from __future__ import annotations

from collections.abc import Iterable

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.timezone import now as utc_now
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from chroniker.models import Job

from .actions import (
    mute_jobs,
    request_runs,
    request_stops,
    set_enabled,
    unmute_jobs,
    user_id,
)
from .job_kinds import load_kinds
from .job_permissions import JobPermissionAdmin
from .site_status import load_site_status


@admin.action(permissions=["run"], description=gettext_lazy("Run selected jobs now"))
def run_now(model_admin: JobPermissionAdmin, request: HttpRequest, queryset: QuerySet[Job]) -> None:
    """Request a run of each job."""
    run_jobs(model_admin, request, _without_states(queryset))


@admin.action(permissions=["stop"], description=gettext_lazy("Stop selected jobs"))
def stop(model_admin: JobPermissionAdmin, request: HttpRequest, queryset: QuerySet[Job]) -> None:
    """Request a stop of the jobs that are running."""
    stop_jobs(model_admin, request, _without_states(queryset))


@admin.action(permissions=["change"], description=gettext_lazy("Enable selected jobs"))
def enable(model_admin: JobPermissionAdmin, request: HttpRequest, queryset: QuerySet[Job]) -> None:
    """Enable the jobs' schedules."""
    _set_enabled(model_admin, request, queryset, enabled=True)


@admin.action(permissions=["change"], description=gettext_lazy("Disable selected jobs"))
def disable(model_admin: JobPermissionAdmin, request: HttpRequest, queryset: QuerySet[Job]) -> None:
    """Disable the jobs' schedules. Active runs continue."""
    _set_enabled(model_admin, request, queryset, enabled=False)


@admin.action(permissions=["mute"], description=gettext_lazy("Mute for 1 hour"))
def mute_hour(
    model_admin: JobPermissionAdmin, request: HttpRequest, queryset: QuerySet[Job]
) -> None:
    """Send no notifications about the jobs for an hour."""
    _mute(model_admin, request, queryset, hours=1)


@admin.action(permissions=["mute"], description=gettext_lazy("Mute for 1 day"))
def mute_day(
    model_admin: JobPermissionAdmin, request: HttpRequest, queryset: QuerySet[Job]
) -> None:
    """Send no notifications about the jobs for a day."""
    _mute(model_admin, request, queryset, hours=24)


@admin.action(permissions=["unmute"], description=gettext_lazy("Unmute"))
def unmute(model_admin: JobPermissionAdmin, request: HttpRequest, queryset: QuerySet[Job]) -> None:
    """Send notifications again. The next tick reports incidents that are still open."""
    now = utc_now()
    jobs = list(_without_states(queryset))
    number = unmute_jobs(jobs, now=now, user_id=user_id(request))
    text = ngettext("%d job unmuted.", "%d jobs unmuted.", number)
    level = messages.SUCCESS if number else messages.INFO
    model_admin.message_user(request, text % number, level)
    if left := Job.objects.muted(now).filter(pk__in=[job.pk for job in jobs]).count():
        text = ngettext(
            "%d job is still muted by a maintenance window that pauses jobs or covers all jobs. "
            "End the window to unmute it.",
            "%d jobs are still muted by maintenance windows that pause jobs or cover all jobs. "
            "End the windows to unmute them.",
            left,
        )
        model_admin.message_user(request, text % left, messages.WARNING)


ACTIONS = (run_now, stop, enable, disable, mute_hour, mute_day, unmute)


def run_jobs(
    model_admin: JobPermissionAdmin,
    request: HttpRequest,
    jobs: Iterable[Job],
    *,
    args: str | None = None,
) -> None:
    """Request a run of each job and show a message. ``args``: instead of those of the jobs."""
    number = request_runs(jobs, user_id=user_id(request), args=args)
    if not number:
        text = _(
            "No new run requested: a run is already requested, or no host has ticked yet that "
            "could run the job."
        )
        model_admin.message_user(request, text, messages.WARNING)
    elif load_site_status(request).starting:
        text = ngettext(
            "%d run requested. It starts with the next tick.",
            "%d runs requested. They start with the next tick.",
            number,
        )
        model_admin.message_user(request, text % number, messages.SUCCESS)
    else:
        text = ngettext(
            "%d run requested. At present no host starts jobs; the top of this page says why.",
            "%d runs requested. At present no host starts jobs; the top of this page says why.",
            number,
        )
        model_admin.message_user(request, text % number, messages.WARNING)


def stop_jobs(model_admin: JobPermissionAdmin, request: HttpRequest, jobs: Iterable[Job]) -> None:
    """Request a stop of the jobs that are running and show a message."""
    number = request_stops(jobs, user_id=user_id(request))
    if number:
        text = ngettext("Stop requested for %d run.", "Stop requested for %d runs.", number)
        model_admin.message_user(request, text % number, messages.SUCCESS)
    else:
        text = _("Nothing to stop: nothing is running, or a stop is already requested.")
        model_admin.message_user(request, text, messages.WARNING)


def _mute(
    model_admin: JobPermissionAdmin, request: HttpRequest, queryset: QuerySet[Job], *, hours: int
) -> None:
    jobs = _without_states(queryset)
    number = mute_jobs(jobs, hours=hours, now=utc_now(), user_id=user_id(request))
    text = ngettext("%d job muted.", "%d jobs muted.", number)
    model_admin.message_user(request, text % number, messages.SUCCESS)


def _set_enabled(
    model_admin: JobPermissionAdmin,
    request: HttpRequest,
    queryset: QuerySet[Job],
    *,
    enabled: bool,
) -> None:
    jobs = list(_without_states(queryset))
    load_kinds(jobs)
    permitted = [job for job in jobs if model_admin.has_change_permission(request, job)]
    number = set_enabled(permitted, enabled=enabled, now=utc_now(), user_id=user_id(request))
    if enabled:
        text = ngettext("%d job enabled.", "%d jobs enabled.", number)
    else:
        text = ngettext("%d job disabled.", "%d jobs disabled.", number)
    level = messages.SUCCESS if number else messages.INFO
    model_admin.message_user(request, text % number, level)
    if skipped := len(jobs) - len(permitted):
        text = ngettext(
            "%d job was not changed: you do not have permission to change it.",
            "%d jobs were not changed: you do not have permission to change them.",
            skipped,
        )
        model_admin.message_user(request, text % skipped, messages.WARNING)


def _without_states(queryset: QuerySet[Job]) -> QuerySet[Job]:
    """The jobs without the states that the list prefetches."""
    return queryset.prefetch_related(None)
